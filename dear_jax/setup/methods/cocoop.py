"""The keys of CoCoOp, the group `config.cocoop`, and its published recipe (source: dear_jax/methods/cocoop.py)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup.methods import context, coop

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.cocoop import CoCoOp, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "CoCoOp"


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys."""

    tokens: int = 4  # of the context
    words: str = context.A_PHOTO  # that they start as, one each; empty: random


ARRAYS: tuple[str, ...] = ()
STRUCTURAL = ("tokens", "words")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"context": coop.PRESETS["context"]}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """SGD, one image at a time, the same for every protocol and data set."""
    published = {**coop.sgd(), "train.batch_size": 1, "train.epochs": 10}
    if protocol != "few_shot":
        return published
    return published | {"remark": "CoCoOp has no published few-shot recipe: this is that of base-to-new."}


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    return context.problems("cocoop", options)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return ["CoCoOp runs the text tower on all classes for every single image, in training and in evaluation."]


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "CoCoOp":
    """The method on an architecture.

    Raises:
        UserError: more tokens than the text tower has room for.
    """
    from dear_jax.methods.cocoop import CoCoOp

    split = context.split("cocoop", options.tokens, config, dtype, class_chunk)
    return CoCoOp(split, options.tokens, context.plain(options.words))


def settings(options: Options, method: "CoCoOp", roles: "RoleSource") -> "Settings":
    """There are none."""
    from dear_jax.methods.cocoop import Settings

    return Settings()


def start(options: Options) -> None:
    """Its adapters start as their seeds and the words say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "CoCoOp":
    """The method that an adapter file describes."""
    from dear_jax.methods.cocoop import CoCoOp

    return CoCoOp.restore(structure, config, dtype)
