"""What a run did otherwise than its protocol's config: the name of its row in a table.

The configs themselves say what the recipe of a data set is, so that ImageNet's fewer epochs make no row of their own,
and a mask or a learning rate that somebody chose does.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dear_jax import main as command_line
from dear_jax.report.runs import Run, flatten
from dear_jax.workdir import FREE_KEYS

CONFIGS = Path(__file__).parents[1] / "configs"
# Where the data are, what is trained together, and what the machine needs: no setting of the method.
NO_SETTING = FREE_KEYS | {
    "job",
    "run",
    "protocol",
    "seeds",
    "variants",
    "data.dataset",
    "data.root",
    "data.skip_bad",
    "data.source",
    "data.splits",
    "eval.batch_size",
}
ZERO_SHOT = ("backbone", "image_size", "compute.", "data.exif", "data.split_seed", "data.template")


def settings(run: Run, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a run's config that differ from its protocol's; keys that one of the two lacks are left out."""
    ignored = NO_SETTING | ({"data.shots"} if run.protocol == "few_shot" else set())
    return {
        key: run.config[key]
        for key, default in defaults.items()
        if key in run.config and key not in ignored and run.config[key] != default
    }


def default_config(protocol: str, dataset: str) -> dict[str, Any]:
    """The config of a protocol and data set, flat, with JSON's values."""
    config = command_line.load_config(f"{CONFIGS / protocol}.py:{dataset}")
    return dict(json.loads(json.dumps(flatten(config.to_dict()))))


def row_name(method: str, variant: str, changed: Mapping[str, Any]) -> str:
    """For example "DeAR (ours), open, data.shots=4"."""
    words = [f"{method} (ours)", *([variant] if variant not in ("", "default") else [])]
    return ", ".join([*words, *(f"{key}={_text(value)}" for key, value in changed.items())])


def of_zero_shot(changed: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings that zero-shot CLIP depends on."""
    return {key: value for key, value in changed.items() if key.startswith(ZERO_SHOT)}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
