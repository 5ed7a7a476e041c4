"""What a run did otherwise than its protocol's config: the name of its row in a table.

The configs themselves say what the recipe of a data set is, so that ImageNet's fewer epochs make no row of their own,
and a mask or a learning rate that somebody chose does. Keys are named as today, and those of the run's method without
its group, so that runs of any version make one row.
"""

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from dear_jax import main as command_line
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.report.runs import Run
from dear_jax.setup import keys, recipes, values
from dear_jax.setup.methods import METHODS

ZERO_SHOT = "zero-shot CLIP"
OURS = "(ours)"  # in the name of a row that this project measured
FIRST = "dear"  # of the table of methods: what runs from before there were others have trained
CONFIGS = Path(__file__).parents[2] / "configs"
# Where the data are, what is trained together, and what the machine needs: no setting of the method.
NO_SETTING = keys.FREE | {
    "job",
    "method",  # the row is called after it
    "run",
    "run_backbone",
    "protocol",
    "seeds",
    "variants",
    "data.dataset",
    "data.root",
    "data.skip_bad",
    "data.source",
    "data.splits",
    "eval.batch_size",
    "eval.datasets",
}
CHOOSES = ("data.shots", "train.share")  # which of a method's recipes counts
ZERO_SHOT_KEYS = ("backbone", "image_size", "compute.", "data.exif", "data.split_seed", "data.template")
EVALUATION = (*ZERO_SHOT_KEYS, "eval.new_classes")  # of these, an evaluation's own config counts, not the training's


def zero_shot_row(run: Run) -> str:
    """The row of zero-shot CLIP; its name has the settings that zero-shot CLIP depends on."""
    return _name(ZERO_SHOT, _changed(run, run.config, ZERO_SHOT_KEYS, recipes=False))


def adapter_row(run: Run, variant: str) -> str:
    """The row of a variant, for example "DeAR (ours), open, data.shots=4"."""
    words = [] if variant == "default" else [variant]
    if run.trained_on != _usual_training(run):
        words.append("trained on {} ({} classes)".format(*run.trained_on))
    if run.training:
        changed = _changed(run, run.training) if run.training is run.config else _changed_in_both(run)
    else:
        words.append(f"adapter of {run.config['run']}")
        changed = _changed(run, run.config, EVALUATION)
    return _name(run.method, changed, words)


def method_of(row: str) -> str:
    """What a row's name calls the method: "DeAR" of "DeAR (ours), open"."""
    return row.partition(f" {OURS}")[0]


def is_plain(row: str) -> bool:
    """Whether a row of ours is as its protocol and its method have it, with no setting changed."""
    return row.endswith(f" {OURS}")


def _name(method: str, changed: Mapping[str, Any], words: Sequence[str] = ()) -> str:
    return ", ".join([f"{method} {OURS}", *words, *(f"{key}={_text(value)}" for key, value in sorted(changed.items()))])


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _usual_training(run: Run) -> tuple[str, int]:
    """Data set and number of classes that the protocol itself trains on."""
    classes = len(run.data["class_names"])
    return run.dataset, math.ceil(classes / PROTOCOLS[run.protocol].sets)


def _changed_in_both(run: Run) -> dict[str, Any]:
    """The settings of a training, and those of an evaluation in a folder of its own."""
    training = _changed(run, run.training)
    kept = {key: value for key, value in training.items() if not key.startswith(EVALUATION)}
    return kept | _changed(run, run.config, EVALUATION)


def _changed(
    run: Run, written: Mapping[str, Any], prefixes: tuple[str, ...] = ("",), recipes: bool = True
) -> dict[str, Any]:
    """The keys of a config that differ from its protocol's own; keys that one of the two lacks are left out.

    With `recipes`, what the method's own recipe sets is no difference; zero-shot CLIP, which methods share, has none.
    """
    config = keys.current(written)
    method = config.get("method", FIRST)
    of = method if recipes else FIRST
    chosen = tuple((key, config[key]) for key in CHOOSES if key in config)
    defaults = _default_config(config["protocol"], config["data.dataset"], of, chosen)
    without = tuple(f"{name}." for name in METHODS if name != method)  # what only other methods read
    ignored = NO_SETTING | ({"data.shots"} if PROTOCOLS[run.protocol].shots else set())
    return {
        key.removeprefix(f"{method}."): config[key]
        for key, default in defaults.items()
        if key in config and config[key] != default and key.startswith(prefixes)
        if key not in ignored and not key.startswith(without)
    }


@functools.cache
def _default_config(protocol: str, dataset: str, method: str, chosen: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """The config of a protocol, data set and method, as its command gives it, flat, with JSON's values.

    Its recipe is that of the values of `chosen`; these keys themselves are as the protocol has them.
    """
    arguments = [f"--config={CONFIGS / protocol}.py:{dataset}"]
    if method in METHODS:  # of another version of this project, its recipe is not known
        arguments.append(f"--config.method={method}")
    plain, _, _ = command_line.parse(arguments)
    config = recipes.resolve(values.set_all(plain, dict(chosen)))
    flat = flatten_dict(json.loads(json.dumps(config.to_dict())), sep=".")
    usual = values.flat_values(plain)
    return {**flat, **{key: usual[key] for key in CHOOSES}}
