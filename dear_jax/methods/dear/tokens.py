"""What DeAR learns: tokens of both towers, the attribute projection, the fusion weights."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.errors import UserError
from dear_jax.methods.dear import fusion

Adapter = dict[str, Array]
PROJECTIONS = ("copy", "normal")


@dataclasses.dataclass(frozen=True)
class Structure:
    """The static shape of an adapter. What else a run may vary is an array (`adapt.model.Settings`)."""

    attributes: tuple[str, ...]  # K names, one vision token each
    text_count: int  # K_t
    vision_layer: int  # J of the vision tower, counted from 1
    text_layer: int  # J of the text tower
    shared_projection: bool = True  # one attribute projection for all attributes, or one each

    @property
    def count(self) -> int:
        """K, the number of attribute tokens."""
        return len(self.attributes)


@dataclasses.dataclass(frozen=True)
class Start:
    """Where an adapter starts: values alone, so that variants of one structure may start apart.

    Raises:
        UserError: a value outside its range, with the key.
    """

    init_std: float = 0.02  # of the tokens
    class_start: float = 0.5  # alpha of the class path, in (0, 1)
    projection_init: str = "copy"  # of the attribute projection, one of PROJECTIONS
    seed: int | None = None  # of tokens and projection; None: the run's

    def __post_init__(self) -> None:
        if not 0 < self.class_start < 1:
            raise UserError(
                f"config.fusion.class_start is {self.class_start}: expected a number between 0 and 1, exclusive."
            )
        if self.projection_init not in PROJECTIONS:
            raise UserError(
                f"config.tokens.projection_init is {self.projection_init!r}: expected one of {', '.join(PROJECTIONS)}."
            )
        if not self.init_std >= 0:
            raise UserError(f"config.tokens.init_std is {self.init_std}: expected 0 or more.")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise UserError(f"config.tokens.init_seed is {self.seed}: expected an integer of 0 to 2^32 - 1.")


def deeper_third(layers: int) -> int:
    """First layer of a tower's deeper third: 9 of 12, as in the paper; 17 of 24."""
    return 2 * layers // 3 + 1


def make_structure(
    config: CLIPConfig,
    *,
    attributes: tuple[str, ...],
    text_count: int,
    vision_layer: int | None,
    text_layer: int | None,
    shared_projection: bool = True,
) -> Structure:
    """Fill in the default layers and check the ranges.

    Raises:
        UserError: a value outside its range, with the key.
    """
    structure = Structure(
        tuple(attributes),
        text_count,
        deeper_third(config.vision.layers) if vision_layer is None else vision_layer,
        deeper_third(config.text.layers) if text_layer is None else text_layer,
        shared_projection,
    )
    limits = {
        "tokens.vision_layer": (structure.vision_layer, config.vision.layers),
        "tokens.text_layer": (structure.text_layer, config.text.layers),
    }
    for key, (layer, layers) in limits.items():
        if not 1 <= layer <= layers:
            raise UserError(f"config.{key} is {layer}: expected 1 to {layers}, the layers of the backbone.")
    if not attributes or len(set(attributes)) != len(attributes):
        raise UserError(f"config.tokens.attributes is {attributes}: expected one or more different names.")
    if text_count < 1:
        raise UserError(f"config.tokens.text_count is {text_count}: expected 1 or more.")
    return structure


def initialize(
    key: PRNGKeyArray, params: Params, config: CLIPConfig, structure: Structure, start: Start | None = None
) -> Adapter:
    """A fresh adapter, float32. `key` counts where the start has no seed of its own.

    Returns:
        vision_tokens `[K, D]` and text_tokens `[K_t, D]`, normal with standard deviation init_std;
        attribute_projection `[1, D, d]` or, not shared, `[K, D, d]`, copies of the frozen one or normal as CLIP's own
        initialisation; fusion `[1+K]`.
    """
    start = start or Start()
    key = key if start.seed is None else jax.random.key(start.seed)
    vision_key, text_key = jax.random.split(key)

    def normal(key: PRNGKeyArray, shape: tuple[int, int]) -> Array:
        return start.init_std * jax.random.normal(key, shape, jnp.float32)

    frozen = jnp.asarray(params["visual_projection"]["kernel"], jnp.float32)
    projections = jnp.stack([frozen] * (1 if structure.shared_projection else structure.count))
    if start.projection_init == "normal":
        projections = config.vision.width**-0.5 * jax.random.normal(
            jax.random.fold_in(key, 2), projections.shape, jnp.float32
        )
    return {
        "vision_tokens": normal(vision_key, (structure.count, config.vision.width)),
        "text_tokens": normal(text_key, (structure.text_count, config.text.width)),
        "attribute_projection": projections,
        "fusion": fusion.initialize(structure.count, start.class_start),
    }
