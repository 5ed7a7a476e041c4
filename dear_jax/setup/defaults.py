"""What of a written config is not as configs/base.py and the method's recipe have it, and the command that says so."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict

from dear_jax.errors import UserError
from dear_jax.setup import config_files, keys, recipes, values

# Whatever these are, the recipe is that of them: they count as set apart from the base config, and others from theirs.
CHOSEN = ("method", "protocol", "data.dataset", "data.shots", "train.share")


class Difference(NamedTuple):
    """A setting with another value than its default."""

    key: str
    value: Any
    default: Any


def differences(written: Mapping[str, Any]) -> list[Difference] | None:
    """The settings of a config.json that differ from the defaults; None where these are not to be had.

    The default of a key of the recipe is that of the config's method, protocol, data set and shots.
    """
    try:
        _, base = config_files.base()
    except UserError:
        return None
    config = keys.current(flatten_dict(dict(written), sep="."))
    plain = _plain(values.flat_values(base))
    chosen = {key: config[key] for key in CHOSEN if key in config}
    recipe = _plain(values.flat_values(recipes.resolve(values.set_open(base, chosen))))
    defaults = recipe | {key: plain[key] for key in CHOSEN}
    return [
        Difference(key, config[key], default)
        for key, default in defaults.items()
        if config.get(key, default) != default
    ]


def command(found: list[Difference]) -> str:
    """A command line that makes a run with these settings.

    What a selection has chosen is among the settings, so that its workdir is not needed.
    """
    flags = [f"--config.{one.key}={_text(one.value)}" for one in found if one.key != "selection"]
    return shlex.join(["python", "-m", "dear_jax.main", "--config=configs/base.py", *flags])


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """In JSON's types, as a config.json has them."""
    return dict(json.loads(json.dumps(config)))


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
