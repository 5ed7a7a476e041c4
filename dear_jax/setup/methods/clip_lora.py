"""The keys of CLIP-LoRA, the group `config.clip_lora`, and its published recipe (source: methods/clip_lora.py)."""

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from dear_jax.errors import UserError
from dear_jax.setup import values

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.clip_lora import CLIPLoRA, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "CLIP-LoRA"
STEPS_PER_SHOT = 500


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys."""

    rank: int = 2  # r
    alpha: float = 1.0  # additions are multiplied by alpha / sqrt(rank)
    dropout: float = 0.25  # share of the additions' inputs that training drops, in [0, 1)
    projections: str = "qkv"  # which of queries, keys and values have additions
    encoders: str = "both"  # the towers that have: both | vision | text
    template: str = "a photo of a {}."  # prompt of every data set; empty: as config.data.template says


ARRAYS = ("alpha", "dropout")
STRUCTURAL = ("rank", "projections", "encoders", "template")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "rank": {f"rank_{rank}": {"rank": rank} for rank in (1, 2, 4, 8, 16)},
    "encoders": {encoders: {"encoders": encoders} for encoders in ("both", "vision", "text")},
    "dropout": {f"dropout_{share}": {"dropout": float(share)} for share in ("0", "0.25", "0.5")},
}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """Few-shot as its authors have it, for all data sets; base-to-new the same, as 2SFS (CVPR 2025) runs it."""
    published = {
        "train.steps": STEPS_PER_SHOT * shots,
        "train.batch_size": 32,
        "optimizer.learning_rate": 2e-4,
        "optimizer.weight_decay": 1e-2,
        "optimizer.warmup_epochs": 0,
        "optimizer.schedule": "step_cosine",
        "optimizer.final_learning_rate": 1e-6,
        "data.crop_scale": (0.08, 1.0),
    }
    if protocol in ("few_shot", "base2new"):
        return published
    remark = f"There is no published recipe of CLIP-LoRA for config.protocol={protocol}: that of few-shot is taken."
    return published | {"remark": remark}


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    from dear_jax.methods.clip_lora import ENCODERS, PROJECTIONS

    chosen = set(options.projections)
    rules = {
        "rank": (options.rank >= 1, "1 or more"),
        "alpha": (options.alpha > 0, "a positive number"),
        "dropout": (0 <= options.dropout < 1, "a number in [0, 1)"),
        "projections": (
            chosen <= set(PROJECTIONS) and len(chosen) == len(options.projections) > 0,
            f"one or more of the letters {', '.join(PROJECTIONS)}, such as {PROJECTIONS}",
        ),
        "encoders": (options.encoders in ENCODERS, f"one of {', '.join(ENCODERS)}"),
        "template": (options.template.count("{}") == 1 or not options.template, "a prompt with one {}, or none"),
    }
    return values.out_of_range(rules)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "CLIPLoRA":
    """The method on an architecture.

    Raises:
        UserError: a rank above the width of a tower, where it would be none.
    """
    from dear_jax.clip.split import Split
    from dear_jax.methods.clip_lora import PROJECTIONS, CLIPLoRA

    towers = {"vision": config.vision, "text": config.text}
    adapted = {name: tower for name, tower in towers.items() if options.encoders in ("both", name)}
    for name, tower in adapted.items():
        if options.rank > tower.width:
            raise UserError(
                f"config.clip_lora.rank is {options.rank}: expected at most {tower.width}, the width of the backbone's "
                f"{name} tower."
            )
    first = {name: 1 if name in adapted else tower.layers for name, tower in towers.items()}
    projections = "".join(name for name in PROJECTIONS if name in options.projections)
    split = Split(config, first["vision"], first["text"], dtype, class_chunk)
    return CLIPLoRA(split, options.rank, projections, options.encoders, options.template)


def settings(options: Options, method: "CLIPLoRA", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.clip_lora import Settings

    return Settings(jnp.float32(options.alpha / math.sqrt(options.rank)), jnp.float32(options.dropout))


def start(options: Options) -> None:
    """Its adapters start as their seeds say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "CLIPLoRA":
    """The method that an adapter file describes."""
    from dear_jax.methods.clip_lora import CLIPLoRA

    return CLIPLoRA.restore(structure, config, dtype)
