"""What values each key of a config may have: one table of kinds, ranges and choices, and a limit for all others.

The keys of a method have further rules in its file of `dear_jax/setup/methods/`, the settings of an analysis of heads
in `dear_jax/roles/options.py`: those that depend on one another. Here are all that a value alone can break.
"""

import math
import os
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from dear_jax.data.loading import SOURCES
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import show
from dear_jax.setup import values
from dear_jax.setup.backbones import DTYPES
from dear_jax.training.optimizer import NAMES, SCHEDULES

LARGEST = 2**31 - 1  # of an integer, as arrays count
LARGEST_FLOAT = 1e30  # its square is beyond float32
SEEDS = 2**32  # that random generators tell apart
NAME_BYTES, PATH_BYTES = 255, 4095  # of one name, and of a whole path, on a disk
WORKERS = 4 * (os.cpu_count() or 1)
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")


class Range(NamedTuple):
    """A number's least and greatest value."""

    least: float
    most: float = math.inf
    note: str = ""  # what the least stands for, or what is counted
    open: bool = False  # whether the least itself is left out
    half_open: bool = False  # whether the greatest is

    def holds(self, value: Any) -> bool:
        """Whether a number is in it; one that is not a number never is."""
        above = self.least < value if self.open else self.least <= value
        return above and (value < self.most if self.half_open else value <= self.most)

    def __str__(self) -> str:
        if self.open and not self.least and self.most == math.inf:
            return "a positive number"
        if self.most == math.inf:
            return f"{self.least:,}{self.note} or more"
        if isinstance(self.most, int):
            return f"{self.least:,}{self.note} to {self.most:,}"
        return f"a number in {'(' if self.open else '['}{self.least:g}, {self.most:g}{')' if self.half_open else ']'}"


POSITIVE, NOT_NEGATIVE, COUNT = Range(0, open=True), Range(0), Range(1)
RANGES: Mapping[str, Range] = {
    "data.shots": COUNT,
    "data.workers": Range(0, WORKERS, " (threads of this process)"),
    "data.cache_gb": Range(0.0, 1e6),
    "image_size": COUNT,  # how large it may be depends on the backbone
    "optimizer.learning_rate": POSITIVE,
    "optimizer.weight_decay": NOT_NEGATIVE,
    "optimizer.warmup_epochs": NOT_NEGATIVE,
    "optimizer.warmup_learning_rate": NOT_NEGATIVE,
    "optimizer.final_learning_rate": NOT_NEGATIVE,
    "optimizer.epsilon": POSITIVE,
    "optimizer.momentum": Range(0.0, 1.0, half_open=True),
    "train.epochs": Range(0, 1_000_000),
    "train.steps": Range(0, 1_000_000_000, " (the epochs count)"),
    "train.share": Range(0.0, 1000.0, open=True),
    "train.batch_size": COUNT,
    "train.log_every": COUNT,
    "train.checkpoint_every": Range(0, note=" (once an epoch, 20 at most)"),
    "train.keep_checkpoints": COUNT,
    "eval.batch_size": Range(1, 10_000),  # an array of so many images is made, however few there are
    "select.folds": Range(2),
    "select.images": COUNT,
    "predict.shown": NOT_NEGATIVE,
    "explain.images": Range(1, 5000),  # on one page
    "explain.size": Range(16, 4096),
    "retrieve.queries": COUNT,
    "retrieve.top": Range(1, 1000),  # with the next: of pictures on a sheet
    "retrieve.shown": Range(1, 1000),
    "roles.batch_size": Range(1, 10_000),
    "roles.top_images": Range(1, 100),
    "compute.class_chunk": Range(0, note=" (as many as fit)"),
    "compute.processes": Range(0, 1_000_000),
    "compute.process": Range(-1),
    "compute.coordinator_timeout": Range(1, 86_400),
    "compile.classes": Range(0, 1_000_000),
    "compile.prompt_length": Range(3, 1000),
    "dear.tokens.text_count": Range(1, 1000),
    "pretrain.learning_rate": POSITIVE,
    **{f"pretrain.{key}": NOT_NEGATIVE for key in ("warmup_steps", "weight_decay", "attribute_weight", "dense_weight")},
    **{f"pretrain.{key}": COUNT for key in ("steps", "log_every", "eval_every", "eval_scenes", "dense_layer")},
    "pretrain.batch_size": Range(1, 10_000),
    **{f"pretrain.{key}": Range(1, 4096) for key in ("patch_size", "embed_dim", "vision_width", "text_width")},
    **{f"pretrain.{tower}_{what}": Range(1, 100) for tower in ("vision", "text") for what in ("layers", "heads")},
    "pretrain.context_length": Range(8, 1000),
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "protocol": tuple(PROTOCOLS),
    "data.source": SOURCES,
    "optimizer.name": tuple(NAMES),
    "optimizer.schedule": tuple(SCHEDULES),
    "eval.split": ("test", "val"),
    "compute.dtype": tuple(DTYPES),
    "compute.matmul_precision": PRECISIONS,
    "compute.distributed": ("auto", "true", "false"),
}
PATHS = (
    *("run", "run_backbone", "backbone", "images", "selection", "data.root", "data.splits", "data.shots_file"),
    *("roles.bank", "roles.anchors", "roles.cache", "roles.compare", "retrieve.query_images"),
    *("compute.compilation_cache", "dear.mask.role_map", "dear.mask.file"),
)


def problems(config: ConfigDict, keys: Container[str] | None = None) -> dict[str, str]:
    """Key -> what is expected, of those whose value is out of its range; a key that is open (None) is in any.

    Args:
        config: of any job, resolved or not.
        keys: those looked at; None: all.
    """
    found = {
        key: _expected(key, value)
        for key, value in values.flat_values(config).items()
        if value is not None and (keys is None or key in keys)
    }
    return {key: expected for key, expected in found.items() if expected}


def messages(config: ConfigDict, expected: Mapping[str, str]) -> list[str]:
    """What to say of each key, given what is expected of it."""
    given = values.flat_values(config)
    return [f"config.{key} is {show(given[key])}, expected {text}" for key, text in expected.items()]


def _expected(key: str, value: Any) -> str:
    """What a key's value should be; empty where it is."""
    name = key.rsplit(".", 1)[-1]
    if key in CHOICES:
        return "" if value in CHOICES[key] else f"one of {', '.join(CHOICES[key])}"
    if key == "seeds":
        valid = 0 < len(value) == len(set(value)) and all(isinstance(one, int) and 0 <= one < SEEDS for one in value)
        return "" if valid else "one or more different integers of 0 to 2^32 - 1, such as 1,2,3"
    if name == "seed" or name.endswith("_seed"):
        return "" if 0 <= value < SEEDS else "an integer of 0 to 2^32 - 1"
    if key in PATHS:
        return "" if _fits_a_disk(value) else f"a path of names that have {NAME_BYTES} bytes at most"
    for one in value if isinstance(value, tuple | list) else (value,):
        if key in RANGES and not RANGES[key].holds(one):
            return str(RANGES[key])
        if isinstance(one, float) and not abs(one) <= LARGEST_FLOAT:
            return f"a finite number, {LARGEST_FLOAT:g} at most"
        if isinstance(one, int) and abs(one) > LARGEST:
            return f"{LARGEST:,} at most"
    return ""


def _fits_a_disk(path: str) -> bool:
    encoded = path.encode(errors="surrogatepass")
    return len(encoded) <= PATH_BYTES and all(len(name) <= NAME_BYTES for name in encoded.split(b"/"))
