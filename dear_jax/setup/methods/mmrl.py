"""The keys of MMRL, the group `config.mmrl`, and its published recipe (see dear_jax/methods/mmrl.py for the source)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup import values
from dear_jax.setup.methods import layers

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.mmrl import MMRL, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "MMRL"


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys; None: as the recipe has it."""

    tokens: int = 5  # K
    width: int | None = None  # of the tokens' shared space; the recipe: 512, but 2048 for EuroSAT
    vision_layer: int | None = None  # J, counted from 1; None: half the depth, 6 of 12
    text_layer: int | None = None  # the same for the text tower
    reg: float | None = None  # weight of the distances to plain CLIP
    class_weight: float = 0.7  # of the class path, in loss and prediction


ARRAYS = ("reg", "class_weight")
STRUCTURAL = ("tokens", "width", "vision_layer", "text_layer")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "class_weight": {f"class_{weight}": {"class_weight": float(weight)} for weight in ("0.5", "0.7", "0.9", "1")},
    "reg": {f"reg_{weight}": {"reg": float(weight)} for weight in ("0", "0.2", "0.5", "2", "7")},
}
# Of base-to-new and few-shot; of a data set that the paper does not have: that of its few-shot file.
REG = {
    "stanford_cars": 7.0,
    "fgvc_aircraft": 6.0,
    "sun397": 6.0,
    "dtd": 6.0,
    "food101": 5.0,
    "oxford_flowers": 4.0,
    "ucf101": 3.0,
    "imagenet": 0.5,
    "caltech101": 0.5,
    "oxford_pets": 0.2,
    "eurosat": 0.01,
}
OTHER_REG = 0.5
TRANSFER_REG = 0.2


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """AdamW, crops of half an image or more; base-to-new: 10 epochs of batch 4; few-shot: 50 of batch 32."""
    own = {"mmrl.reg": REG.get(dataset, OTHER_REG), "mmrl.width": 2048 if dataset == "eurosat" else 512}
    return {**schedule(protocol, dataset), **own} | (
        {"mmrl.reg": TRANSFER_REG, "mmrl.width": 512} if protocol not in ("base2new", "few_shot") else {}
    )


def schedule(protocol: str, dataset: str) -> dict[str, Any]:
    """What MMRL++ has in common with it, but for few-shot."""
    if protocol == "base2new":
        return {"train.epochs": 5, "train.batch_size": 32} if dataset == "imagenet" else {}
    if protocol == "few_shot":
        return {"train.epochs": 5 if dataset == "imagenet" else 50, "train.batch_size": 32}
    return {"train.epochs": 1, "train.batch_size": 32, "optimizer.warmup_epochs": 0}


def problems(options: Any) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    rules = {
        "tokens": (options.tokens >= 1, "1 or more"),
        "width": (options.width >= 1, "1 or more"),
        "reg": (options.reg >= 0, "0 or more"),
        "class_weight": (0 <= options.class_weight <= 1, "a number in [0, 1]"),
    }
    return values.out_of_range(rules)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "MMRL":
    """The method on an architecture.

    Raises:
        UserError: layers that the backbone does not have.
    """
    from dear_jax.methods.mmrl import MMRL

    assert options.width is not None  # the recipe has it
    split = layers.split("mmrl", options.vision_layer, options.text_layer, config, dtype, class_chunk)
    return MMRL(split, options.tokens, options.width)


def settings(options: Options, method: "MMRL", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.mmrl import Settings

    return Settings(jnp.float32(options.reg), jnp.float32(options.class_weight))


def start(options: Options) -> None:
    """Its adapters start as their seeds say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "MMRL":
    """The method that an adapter file describes."""
    from dear_jax.methods.mmrl import MMRL

    return MMRL.restore(structure, config, dtype)
