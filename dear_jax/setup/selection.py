"""Settings that the job `select` has chosen, and a config that takes them.

`selection.json` says which candidate was chosen and what it sets; `config.selection` names that file, or the workdir
that has it. What is chosen how: `candidates.py`.
"""

from typing import Any

from ml_collections import ConfigDict

from dear_jax.errors import UserError
from dear_jax.files import json_files, storage
from dear_jax.setup import methods, values

NAME = "selection.json"
RULE, SHARE = "eval.new_classes", "train.share"
RATES = ("learning_rate", "warmup_learning_rate", "warmup_epochs", "weight_decay")  # of config.optimizer


def apply(config: ConfigDict) -> ConfigDict:
    """The config with what `config.selection`, if anything, has chosen.

    Raises:
        UserError: no such file; it is no selection, or one for another method; a key that is given as well.
    """
    if not config.selection:
        return config
    path, content = read(config.selection)
    if content["method"] != config.method:
        raise UserError(
            f"config.selection: {path} chose settings of {content['method']}, and config.method is {config.method}. "
            f"Give --config.method={content['method']}, or a selection of {config.method}."
        )
    settings = {key: tuple(v) if isinstance(v, list) else v for key, v in content["chosen"]["settings"].items()}
    given, defaults = values.flat_values(config), _defaults(config)
    unknown = [key for key in settings if key not in given or key not in defaults]
    if unknown:
        raise UserError(f"config.selection: {path} sets {', '.join(unknown)}, which this version has no such key for.")
    for key, value in settings.items():
        if given[key] not in (defaults[key], value):
            raise UserError(
                f"config.{key} is given as {given[key]!r}, and config.selection ({path}) chose {value!r}. Leave one "
                "out."
            )
    try:
        return values.set_open(config, settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"config.selection: {path} holds a value of another kind than its key's: {error}.") from error


def note(config: ConfigDict) -> dict[str, Any]:
    """What results say of the selection that a config takes; empty where it takes none."""
    if not config.selection:
        return {}
    path, content = read(config.selection)
    kept = ("protocol", "dataset", "backbone", "shots")
    return {"from": str(path), **{key: content.get(key, "") for key in kept}, "settings": content["chosen"]["settings"]}


def read(place: str) -> tuple[Any, dict[str, Any]]:
    """A selection file, by its path or the workdir that has it: (path, content).

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = storage.to_path(place)
    path = path if path.name.endswith(".json") else path / NAME
    if not path.exists():
        raise UserError(
            f"config.selection: there is no {path}. Give the workdir of a finished `--config.job=select`, or its "
            f"{NAME}."
        )
    content = json_files.read_object(path)
    try:
        if not isinstance(content["method"], str) or not isinstance(content["chosen"]["settings"], dict):
            raise TypeError
    except (KeyError, TypeError) as error:
        raise UserError(f"config.selection: {path} is no file of the job select: it names no choice.") from error
    return path, content


def _defaults(config: ConfigDict) -> dict[str, Any]:
    """What keys that a selection may set are where nobody has set them."""
    own = values.flat_values(values.to_config(methods.find(config.method).Options()))
    rates = {f"optimizer.{rate}": None for rate in RATES}
    return {f"{config.method}.{key}": value for key, value in own.items()} | rates | {RULE: "", SHARE: 1.0}
