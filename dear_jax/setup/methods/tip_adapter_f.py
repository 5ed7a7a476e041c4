"""The keys of Tip-Adapter-F, the group `config.tip_adapter_f`, and its recipe (dear_jax/methods/tip_adapter_f.py)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup.methods import tip_adapter
from dear_jax.setup.methods.tip_adapter import problems, remarks, settings, start

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.tip_adapter_f import TipAdapterF

__all__ = [
    "ARRAYS",
    "PRESETS",
    "STRUCTURAL",
    "TITLE",
    "Options",
    "build",
    "problems",
    "recipe",
    "remarks",
    "restore",
    "settings",
    "start",
]

TITLE = "Tip-Adapter-F"
OPEN_CLASSES = False  # it knows those that it was fitted to


@dataclasses.dataclass(frozen=True)
class Options(tip_adapter.Options):
    """Those of Tip-Adapter; alpha and beta are also those that the keys are trained with."""


ARRAYS, STRUCTURAL = tip_adapter.ARRAYS, tip_adapter.STRUCTURAL
PRESETS: dict[str, dict[str, dict[str, Any]]] = {"search": tip_adapter.PRESETS["search"]}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """AdamW with PyTorch's own decay and a cosine over all steps to 0; batches of 256."""
    return {
        "train.epochs": 100 if dataset == "eurosat" else 20,
        "train.batch_size": 256,
        "optimizer.weight_decay": 1e-2,
        "optimizer.epsilon": 1e-4,
        "optimizer.schedule": "step_cosine",
        "optimizer.warmup_epochs": 0,
    } | tip_adapter.grid("tip_adapter_f", dataset)


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "TipAdapterF":
    """The method on an architecture."""
    from dear_jax.clip.split import plain_split
    from dear_jax.methods.tip_adapter_f import TipAdapterF

    return TipAdapterF(plain_split(config, dtype, class_chunk), options.passes)


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "TipAdapterF":
    """The method that an adapter file describes."""
    from dear_jax.methods.tip_adapter_f import TipAdapterF

    return TipAdapterF.restore(structure, config, dtype)
