"""The keys of MaPLe, the group `config.maple`, and its published recipe (source: dear_jax/methods/maple.py)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup import values
from dear_jax.setup.methods import layers

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.maple import MaPLe, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "MaPLe"


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys; None: as the recipe has it."""

    tokens: int = 2  # prompts of each tower; more than 4 start from no words
    # Blocks of both towers that prompts enter: those of the images are made of those of the text, block by block.
    depth: int | None = None  # None: default_depth, or all blocks of the shallower tower where it has fewer
    default_depth: int | None = None  # the recipe: 9, on transfers 3


ARRAYS: tuple[str, ...] = ()
STRUCTURAL = ("tokens", "depth")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "depth": {"depth_1": {"depth": 1}, "depth_3": {"depth": 3}, "default": {}},
    "tokens": {f"tokens_{count}": {"tokens": count} for count in (1, 2, 4)},
}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """SGD on crops of any size, 5 epochs of batch 4; transfers: 2 epochs, depth 3.

    The official code has no few-shot run: here it is base-to-new's with 50 epochs, as PromptSRC's is. Its users did not
    find the published few-shot numbers with these.
    """
    transfers = {"optimizer.learning_rate": 0.0026, "train.epochs": 2, "maple.default_depth": 3}
    return {
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.0035,
        "train.epochs": 50 if protocol == "few_shot" else 5,
        "data.crop_scale": (0.08, 1.0),
        "maple.default_depth": 9,
    } | (transfers if protocol not in ("base2new", "few_shot") else {})


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    assert options.default_depth is not None
    rules = {
        "tokens": (options.tokens >= 1, "1 or more"),
        "default_depth": (options.default_depth >= 1, "1 or more"),
    }
    return values.out_of_range(rules)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "MaPLe":
    """The method on an architecture.

    Raises:
        UserError: more blocks than the backbone has, or more prompts than fit its text tower.
    """
    from dear_jax.clip.split import Split
    from dear_jax.methods.maple import MaPLe

    assert options.default_depth is not None
    count = min(config.vision.layers, config.text.layers)
    depth = layers.check("maple.depth", options.depth, count, options.default_depth)
    layers.check_context("maple.tokens", options.tokens, config)
    return MaPLe(Split(config, 1, 1, dtype, class_chunk), options.tokens, depth)


def settings(options: Options, method: "MaPLe", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    from dear_jax.methods.maple import Settings

    return Settings()


def start(options: Options) -> None:
    """Its adapters start as their seeds say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "MaPLe":
    """The method that an adapter file describes."""
    from dear_jax.methods.maple import MaPLe

    return MaPLe.restore(structure, config, dtype)
