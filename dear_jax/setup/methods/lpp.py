"""The keys of LP++, the group `config.lpp`, and its recipe (see dear_jax/methods/lpp.py for the source)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup import values

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.lpp import LPP, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "LP++"
OPEN_CLASSES = False  # it knows those that it was fitted to


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys. The rates and the start of a follow from the training images, and are these times that."""

    iterations: int = 300  # steps of all images
    rate: float = 1.0  # of weights and biases
    blend_rate: float = 1.0  # of a, how much each class's name counts
    blend: float = 1.0  # of a at the beginning
    choose: bool = True  # the step on validation images; else the last


ARRAYS = ("rate", "blend_rate", "blend", "choose")
STRUCTURAL = ("iterations",)
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "text": {"blended": {}, "fixed": {"blend_rate": 0.0}, "images_alone": {"blend": 0.0, "blend_rate": 0.0}},
    "choose": {"chosen": {"choose": True}, "last": {"choose": False}},
}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """The same for all data sets: no steps of the training loop; crops of half an image or more."""
    return {"train.epochs": 0}


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    rules = {
        "iterations": (options.iterations >= 1, "1 or more"),
        "rate": (options.rate > 0, "a positive number, times the rate that follows from the images"),
        "blend_rate": (options.blend_rate >= 0, "0 or more, times the rate that follows from the images"),
        "blend": (options.blend >= 0, "0 or more, times the start that follows from the images"),
    }
    return values.out_of_range(rules)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "LPP":
    """The method on an architecture."""
    from dear_jax.clip.split import plain_split
    from dear_jax.methods.lpp import LPP

    return LPP(plain_split(config, dtype, class_chunk), options.iterations)


def settings(options: Options, method: "LPP", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.lpp import Settings

    return Settings(*map(jnp.float32, (options.rate, options.blend_rate, options.blend, options.choose)))


def start(options: Options) -> None:
    """It starts with its images."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "LPP":
    """The method that an adapter file describes."""
    from dear_jax.methods.lpp import LPP

    return LPP.restore(structure, config, dtype)
