"""The keys of CoOp, the group `config.coop`, and its published recipe (see dear_jax/methods/coop.py for the source)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup.methods import context

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.coop import CoOp, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "CoOp"


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys; None: as the recipe has it."""

    tokens: int | None = None  # of the context; the recipe: 4, few-shot 16
    words: str | None = None  # that they start as, one each; empty: random, the recipe of few-shot
    position: str = "end"  # of the class name: end | middle | front of the context
    class_specific: bool = False  # a context for each class, which can tell apart the classes trained on alone


ARRAYS: tuple[str, ...] = ()
STRUCTURAL = ("tokens", "words", "position", "class_specific")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "position": {position: {"position": position} for position in ("end", "middle", "front")},
    "context": {
        "words_4": {"tokens": 4, "words": context.A_PHOTO},
        **{f"random_{count}": {"tokens": count, "words": ""} for count in (4, 8, 16)},
    },
}
FEW_SHOT_EPOCHS = ((1, 50), (4, 100))  # up to so many shots, so many epochs
EPOCHS = 200  # of more shots, and of base-to-new
IMAGENET_EPOCHS = 50  # of every protocol


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """SGD in batches of 32; base-to-new is CoCoOp's run of it: few tokens that start as words."""
    few_shot = protocol == "few_shot"
    return {
        **sgd(),
        "train.batch_size": 32,
        "train.epochs": _epochs(protocol, dataset, shots),
        "coop.tokens": 16 if few_shot else 4,
        "coop.words": "" if few_shot else context.A_PHOTO,
    }


def sgd() -> dict[str, Any]:
    """What CoCoOp has in common with it."""
    return {"optimizer.name": "sgd", "optimizer.learning_rate": 2e-3, "data.crop_scale": (0.08, 1.0)}


def _epochs(protocol: str, dataset: str, shots: int) -> int:
    if dataset == "imagenet" or protocol not in ("base2new", "few_shot"):
        return IMAGENET_EPOCHS
    of_shots = [epochs for most, epochs in FEW_SHOT_EPOCHS if shots <= most]
    return of_shots[0] if protocol == "few_shot" and of_shots else EPOCHS


def problems(options: Any) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    from dear_jax.methods.learned_words import POSITIONS

    found = context.problems("coop", options)
    if options.position not in POSITIONS:
        found["position"] = f"one of {', '.join(POSITIONS)}"
    return found


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Any, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "CoOp":
    """The method on an architecture.

    Raises:
        UserError: more tokens than the text tower has room for.
    """
    from dear_jax.methods.coop import CoOp

    split = context.split("coop", options.tokens, config, dtype, class_chunk)
    return CoOp(split, options.tokens, context.plain(options.words), options.position, options.class_specific)


def settings(options: Options, method: "CoOp", roles: "RoleSource") -> "Settings":
    """There are none."""
    from dear_jax.methods.coop import Settings

    return Settings()


def start(options: Options) -> None:
    """Its adapters start as their seeds and the words say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "CoOp":
    """The method that an adapter file describes."""
    from dear_jax.methods.coop import CoOp

    return CoOp.restore(structure, config, dtype)
