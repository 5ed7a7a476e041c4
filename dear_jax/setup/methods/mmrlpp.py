"""The keys of MMRL++, the group `config.mmrlpp`, and its published recipe (source: dear_jax/methods/mmrlpp.py)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup import values
from dear_jax.setup.methods import layers, mmrl

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.mmrlpp import MMRLPP, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "MMRL++"


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys; None: as the recipe has it."""

    tokens: int = 5  # K
    width: int = 512  # of the tokens' shared space
    rank: int = 4  # of what each layer adds to its tower's map
    projection_rank: int = 64  # of what is added to CLIP's projection for the tokens
    vision_layer: int | None = None  # J, counted from 1; None: half the depth, 6 of 12
    text_layer: int | None = None  # the same for the text tower
    beta: float | None = None  # share of the projected tokens at each layer after J, in [0, 1]
    reg: float | None = None  # weight of the distances to plain CLIP
    class_weight: float = 0.7  # of the class path, in loss and prediction


ARRAYS = ("beta", "reg", "class_weight")
STRUCTURAL = ("tokens", "width", "rank", "projection_rank", "vision_layer", "text_layer")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "beta": {f"beta_{beta}": {"beta": float(beta)} for beta in ("0.1", "0.3", "0.5", "0.7", "0.9", "1")},
    "class_weight": mmrl.PRESETS["class_weight"],
}
# beta and reg of base-to-new and few-shot; a data set that the paper does not have takes ImageNet's.
WEIGHTS = {
    "imagenet": (0.9, 0.2),
    "fgvc_aircraft": (0.9, 2.0),
    "ucf101": (0.9, 3.0),
    "dtd": (0.9, 7.0),
    "oxford_pets": (0.7, 0.01),
    "stanford_cars": (0.7, 6.0),
    "caltech101": (0.6, 3.0),
    "sun397": (0.5, 3.0),
    "oxford_flowers": (0.4, 7.0),
    "eurosat": (0.2, 0.01),
    "food101": (0.1, 1.0),
}
TRANSFER_WEIGHTS = (0.9, 0.1)


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """As MMRL; few-shot with twice the rate and epochs, but for ImageNet."""
    known = protocol in ("base2new", "few_shot")
    beta, reg = WEIGHTS.get(dataset, WEIGHTS["imagenet"]) if known else TRANSFER_WEIGHTS
    longer = {"train.epochs": 100, "optimizer.learning_rate": 2e-3}
    few_shot = longer if protocol == "few_shot" and dataset != "imagenet" else {}
    return {**mmrl.schedule(protocol, dataset), **few_shot, "mmrlpp.beta": beta, "mmrlpp.reg": reg}


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    assert options.beta is not None
    rules = {
        "beta": (0 <= options.beta <= 1, "a number in [0, 1]"),
        "rank": (1 <= options.rank <= options.width, "1 or more, at most config.mmrlpp.width"),
        "projection_rank": (options.projection_rank >= 1, "1 or more"),
    }
    return values.out_of_range(rules) | mmrl.problems(options)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "MMRLPP":
    """The method on an architecture.

    Raises:
        UserError: layers that the backbone does not have.
    """
    from dear_jax.methods.mmrlpp import MMRLPP

    split = layers.split("mmrlpp", options.vision_layer, options.text_layer, config, dtype, class_chunk)
    return MMRLPP(split, options.tokens, options.width, options.rank, options.projection_rank)


def settings(options: Options, method: "MMRLPP", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.mmrlpp import Settings

    return Settings(jnp.float32(options.reg), jnp.float32(options.class_weight), jnp.float32(options.beta))


def start(options: Options) -> None:
    """Its adapters start as their seeds say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "MMRLPP":
    """The method that an adapter file describes."""
    from dear_jax.methods.mmrlpp import MMRLPP

    return MMRLPP.restore(structure, config, dtype)
