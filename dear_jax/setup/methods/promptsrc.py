"""The keys of PromptSRC, the group `config.promptsrc`, and its published recipe (dear_jax/methods/promptsrc.py)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup import values
from dear_jax.setup.methods import layers

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.promptsrc import PromptSRC, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "PromptSRC"


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys; None: as the recipe has it."""

    text_tokens: int = 4  # prompts of the text tower; more than 4 start from no words
    vision_tokens: int = 4  # prompts of the vision tower
    text_depth: int | None = None  # blocks that prompts enter; None: default_depth, or all where the tower has fewer
    vision_depth: int | None = None  # the same for the vision tower
    default_depth: int | None = None  # the recipe: 9, on transfers 3
    text_weight: float = 25.0  # of the mean absolute difference to plain CLIP's text features
    image_weight: float = 10.0  # the same for image features
    logit_weight: float = 1.0  # of the divergence of the predictions from plain CLIP's
    # Plain CLIP's text features: the mean over 60 of ImageNet's templates, or (false) of config.data.template's own.
    diverse_text: bool = True
    average: bool = True  # what is learned is a Gaussian average of the prompts over the epochs; false: the last ones
    average_mean: float | None = None  # of the Gaussian: an epoch, counted from 1
    average_std: float | None = None  # epochs


ARRAYS = ("text_weight", "image_weight", "logit_weight")
STRUCTURAL = (
    "text_tokens",
    "vision_tokens",
    "text_depth",
    "vision_depth",
    "diverse_text",
    "average",
    "average_mean",
    "average_std",
)
IN_EPOCHS = ("average_mean", "average_std")
WEIGHTS = ("text_weight", "image_weight", "logit_weight")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "losses": {
        "all_terms": {},
        **{f"no_{key}": {key: 0.0} for key in WEIGHTS},
        "cross_entropy_alone": dict.fromkeys(WEIGHTS, 0.0),
    },
    "average": {"averaged": {}, "last_epoch": {"average": False}},
}
LATE = ("stanford_cars", "oxford_flowers", "fgvc_aircraft", "dtd", "eurosat")  # averaged around epoch 45 in few-shot


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """SGD on crops of any size, 20 epochs of batch 4; few-shot: 50 epochs; transfers: depth 3."""
    few_shot, transfers = protocol == "few_shot", protocol not in ("base2new", "few_shot")
    mean, std = (6.0, 10.0) if transfers else (15.0, 1.0)
    if few_shot:
        mean, std = (45.0, 5.0) if dataset in LATE else (30.0, 30.0)
    return {
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.0025,
        "train.epochs": 50 if few_shot else 20,
        "data.crop_scale": (0.08, 1.0),
        "promptsrc.default_depth": 3 if transfers else 9,
        "promptsrc.average_mean": mean,
        "promptsrc.average_std": std,
    }


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    assert options.default_depth is not None
    assert options.average_std is not None
    rules = {
        "text_tokens": (options.text_tokens >= 1, "1 or more"),
        "vision_tokens": (options.vision_tokens >= 1, "1 or more"),
        "default_depth": (options.default_depth >= 1, "1 or more"),
        "text_weight": (options.text_weight >= 0, "0 or more"),
        "image_weight": (options.image_weight >= 0, "0 or more"),
        "logit_weight": (options.logit_weight >= 0, "0 or more"),
        "average_std": (options.average_std > 0, "a positive number"),
    }
    return values.out_of_range(rules)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "PromptSRC":
    """The method on an architecture.

    Raises:
        UserError: more blocks than the backbone has, or more prompts than fit its text tower.
    """
    from dear_jax.clip.split import Split
    from dear_jax.methods.promptsrc import PromptSRC

    assert options.default_depth is not None
    assert options.average_mean is not None
    assert options.average_std is not None
    text, vision = (
        layers.check(f"promptsrc.{key}", asked, tower.layers, options.default_depth)
        for key, asked, tower in (
            ("text_depth", options.text_depth, config.text),
            ("vision_depth", options.vision_depth, config.vision),
        )
    )
    layers.check_context("promptsrc.text_tokens", options.text_tokens, config)
    split = Split(config, 1, 1, dtype, class_chunk)
    return PromptSRC(
        split,
        text_count=options.text_tokens,
        vision_count=options.vision_tokens,
        text_depth=text,
        vision_depth=vision,
        diverse_text=options.diverse_text,
        average=options.average,
        average_mean=options.average_mean,
        average_std=options.average_std,
    )


def settings(options: Options, method: "PromptSRC", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.promptsrc import Settings

    text, image, logit = map(jnp.float32, (options.text_weight, options.image_weight, options.logit_weight))
    return Settings(text, image, logit)


def start(options: Options) -> None:
    """Its adapters start as their seeds say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "PromptSRC":
    """The method that an adapter file describes."""
    from dear_jax.methods.promptsrc import PromptSRC

    return PromptSRC.restore(structure, config, dtype)
