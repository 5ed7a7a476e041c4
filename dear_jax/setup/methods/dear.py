"""The keys of DeAR, the group `config.dear`, and how the method is built from them.

Keys marked [P] follow the paper (arXiv 2603.01111), keys marked [D] are decisions of this project where the paper is
silent; the sections are those of methods/dear. JAX is imported by what builds, not by this file: configs read it.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dear_jax.roles.options import deeper_third
from dear_jax.setup import values
from dear_jax.setup.methods import layers

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.dear.model import DeAR, Settings, Start
    from dear_jax.setup.methods import RoleSource

TITLE = "DeAR"


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Section 2."""

    attributes: tuple[str, ...] = ("color", "shape", "texture", "object", "position")  # [P], one token each
    text_count: int = 5  # learnable tokens of the text tower, K_t [D]
    vision_layer: int | None = None  # J, counted from 1; None: floor(2 L / 3) + 1, 9 of 12 [P]
    text_layer: int | None = None  # the same for the text tower
    beta: float = 0.9  # share of the learned token at each layer, in [0, 1] [D]
    init_std: float = 0.02  # of the normal initialisation [D]
    init_seed: int | None = None  # of the initialisation; None: the run's own seed
    projection_init: str = "copy"  # of the attribute projection: copy (of the frozen one) | normal [D]
    shared_projection: bool = True  # one attribute projection for all attributes, or one each [D]


@dataclasses.dataclass(frozen=True)
class Mask:
    """Section 3."""

    # Of a role map: roles | permuted (within each layer) | layer_wise | only_generalization | only_attribute (the other
    # heads open). Without one: random | open | isolated. See dear_jax/methods/dear/patterns.py.
    pattern: str = "roles"
    seed: int = 0  # of the patterns `random` and `permuted`
    role_map: str = ""  # path of a role map (JSON); empty: the shipped one if it fits, else one made first
    file: str = ""  # a boolean NumPy file [L-J+1, heads, T, T] of one's own; replaces the pattern
    own_token_alone: bool = True  # in an attribute head its token sees no other attribute token [D]
    # Single heads, e.g. "9.0=generalization,10-11.*=mixed,12.attribute=mixed,12.3=attribute:color".
    set: str = ""


@dataclasses.dataclass(frozen=True)
class Fusion:
    """Section 4."""

    class_start: float = 0.9  # alpha of the class path at the start, in (0, 1) [D]


@dataclasses.dataclass(frozen=True)
class Loss:
    """Section 4."""

    reg: float = 1.0  # lambda_reg: both towers stay near frozen CLIP [D]
    reg_form: str = "cosine"  # of that distance: cosine | l1 (mean absolute difference, as in PromptSRC) [D]
    reg_paths: str = "class"  # which are held near CLIP's image feature: class | all, the mean over all paths [D]
    fusion: float = 0.1  # lambda_fusion: -log alpha_cls [D]


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys."""

    tokens: Tokens = Tokens()
    mask: Mask = Mask()
    fusion: Fusion = Fusion()
    loss: Loss = Loss()


ARRAYS = (
    "mask.pattern",
    "mask.seed",
    "mask.role_map",
    "mask.file",
    "mask.own_token_alone",
    "mask.set",
    "tokens.beta",
    "tokens.init_std",
    "tokens.init_seed",
    "tokens.projection_init",
    "fusion.class_start",
    "loss.reg",
    "loss.fusion",
)
STRUCTURAL = (
    "tokens.attributes",
    "tokens.text_count",
    "tokens.vision_layer",
    "tokens.text_layer",
    "tokens.shared_projection",
    "loss.reg_form",
    "loss.reg_paths",
)
# What a selection tries, the nearest to the default first.
MASKS = ("roles", "open", "only_generalization", "only_attribute", "permuted", "isolated")
STARTS = (0.9, 0.95, 0.7, 0.5, 0.3)
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "mask_patterns": {
        "roles": {"mask.pattern": "roles"},
        "open": {"mask.pattern": "open"},
        "isolated": {"mask.pattern": "isolated"},
        **{f"random_{seed}": {"mask.pattern": "random", "mask.seed": seed} for seed in range(5)},
        "layer_wise": {"mask.pattern": "layer_wise"},
        "permuted": {"mask.pattern": "permuted"},
        "only_generalization": {"mask.pattern": "only_generalization"},
        "only_attribute": {"mask.pattern": "only_attribute"},
    },
    "masks": {mask: {"mask.pattern": mask} for mask in MASKS},
    "fusion": {
        f"start_{start}_lambda_{weight}": {"fusion.class_start": start, "loss.fusion": weight}
        for start in STARTS
        for weight in (0.1, 1.0, 0.0)
    },
    "all": {
        f"{mask}_start_{start}": {"mask.pattern": mask, "fusion.class_start": start}
        for start in STARTS
        for mask in MASKS[:3]
    },
    "losses": {
        "all_terms": {},
        "no_regularization": {"loss.reg": 0.0},
        "no_fusion": {"loss.fusion": 0.0},
        "cross_entropy_alone": {"loss.reg": 0.0, "loss.fusion": 0.0},
    },
    "beta": {f"beta_{beta}": {"tokens.beta": float(beta)} for beta in ("0", "0.5", "0.7", "0.9", "1")},
}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """What it trains by (section 5), where it differs from `recipes.COMMON`."""
    if protocol == "few_shot":
        return {"train.epochs": 50, "train.batch_size": 32}
    if protocol == "base2new":
        return {"train.epochs": 5, "train.batch_size": 32} if dataset == "imagenet" else {}
    return {"train.epochs": 1, "train.batch_size": 32, "optimizer.warmup_epochs": 0}


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    from dear_jax.methods import losses
    from dear_jax.methods.dear.model import PROJECTIONS, REGULARIZED
    from dear_jax.methods.dear.patterns import PATTERNS

    tokens, mask, fusion, loss = options.tokens, options.mask, options.fusion, options.loss
    distinct = 0 < len(tokens.attributes) == len(set(tokens.attributes))
    rules = {
        "tokens.attributes": (distinct, "one or more different names"),
        "tokens.text_count": (tokens.text_count >= 1, "1 or more"),
        "tokens.beta": (0 <= tokens.beta <= 1, "a number in [0, 1]"),
        "tokens.init_std": (tokens.init_std >= 0, "0 or more"),
        "tokens.init_seed": (
            tokens.init_seed is None or 0 <= tokens.init_seed < 2**32,
            "an integer of 0 to 2^32 - 1",
        ),
        "tokens.projection_init": (tokens.projection_init in PROJECTIONS, f"one of {', '.join(PROJECTIONS)}"),
        "mask.pattern": (mask.pattern in PATTERNS, f"one of {', '.join(PATTERNS)}"),
        "mask.seed": (mask.seed >= 0, "0 or more"),
        "mask.set": (not (mask.set and mask.file), "none beside config.dear.mask.file, which has all heads"),
        "fusion.class_start": (0 < fusion.class_start < 1, "a number between 0 and 1, exclusive"),
        "loss.reg": (loss.reg >= 0, "0 or more"),
        "loss.fusion": (loss.fusion >= 0, "0 or more"),
        "loss.reg_paths": (loss.reg_paths in REGULARIZED, f"one of {', '.join(REGULARIZED)}"),
        "loss.reg_form": (loss.reg_form in losses.DISTANCES, f"one of {', '.join(losses.DISTANCES)}"),
    }
    return values.out_of_range(rules)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    if options.mask.pattern == "random" and not options.mask.file:
        return ["The head mask is random (config.dear.mask.pattern): it knows nothing of what the heads do."]
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "DeAR":
    """The method on an architecture.

    Raises:
        UserError: layers that the backbone does not have.
    """
    from dear_jax.clip.split import Split
    from dear_jax.methods.dear.model import DeAR

    tokens = options.tokens
    vision, text = (
        layers.check(f"dear.tokens.{key}", asked, tower.layers, deeper_third(tower.layers))
        for key, asked, tower in (
            ("vision_layer", tokens.vision_layer, config.vision),
            ("text_layer", tokens.text_layer, config.text),
        )
    )
    split = Split(config, vision, text, dtype, class_chunk)
    loss = options.loss
    return DeAR(
        split, tokens.attributes, tokens.text_count, tokens.shared_projection, loss.reg_form, loss.reg_paths
    )


def settings(options: Options, method: "DeAR", roles: "RoleSource") -> "Settings":
    """The settings of one variant.

    Raises:
        UserError: a mask that cannot be made: no such file, role map, head or role.
    """
    import jax.numpy as jnp

    from dear_jax.methods.dear.model import Settings

    return Settings(
        head_mask=jnp.asarray(_head_mask(options.mask, method, roles)),
        beta=jnp.float32(options.tokens.beta),
        reg_weight=jnp.float32(options.loss.reg),
        fusion_weight=jnp.float32(options.loss.fusion),
    )


def _head_mask(options: Mask, method: "DeAR", roles: "RoleSource") -> np.ndarray:
    from dear_jax.methods.dear import mask, patterns

    layers, heads, length, _ = method.settings_like().head_mask.shape
    if options.file:
        return mask.load(options.file, (layers, heads, length, length))
    first = method.split.vision_layer
    if options.pattern in patterns.MAPPED:
        table = roles.roles(options.role_map, first, method.attributes)
        table = patterns.mapped_roles(options.pattern, table, options.seed)
    else:
        table = patterns.plain_roles(options.pattern, layers, heads, method.attributes, options.seed)
    table = patterns.set_heads(table, options.set, first, method.attributes)
    return mask.build(table, method.attributes, 1 + method.split.config.patches, options.own_token_alone)


def start(options: Options) -> "Start":
    """Where its adapters start."""
    from dear_jax.methods.dear.model import Start

    tokens = options.tokens
    return Start(tokens.init_std, options.fusion.class_start, tokens.projection_init, tokens.init_seed)


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "DeAR":
    """The method that an adapter file describes."""
    from dear_jax.methods.dear.model import DeAR

    return DeAR.restore(structure, config, dtype)
