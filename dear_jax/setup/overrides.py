"""Other values for keys of a config, as the command line and Python give them; and what an unknown key may mean."""

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict, FieldReference

from dear_jax.errors import UserError, show
from dear_jax.setup import keys, values
from dear_jax.setup.values import Value


def parser(key: str, default: Any) -> Value:
    """What reads a key's value from a text."""
    # By keyword: absl shares parsers of equal positional arguments, and 1 == 1.0 == True.
    return Value(default=default, item=keys.ITEMS.get(key, str))


def apply(config: ConfigDict, given: Mapping[str, Any]) -> ConfigDict:
    """The locked config with the values that `parser` has read, by today's names of their keys.

    Raises:
        UserError: a key of another method than the config's.
    """
    config.update_from_flattened_dict({key: values.plain(value) for key, value in given.items()})
    keys.check_group(given, config.get("method", ""))
    return config.lock()


def apply_values(config: ConfigDict, given: Mapping[str, Any]) -> ConfigDict:
    """The same for values of Python: nested or dotted keys, of which earlier names do as well.

    A value means what its text means on the command line, so that both take the same and refuse the same.

    Raises:
        UserError: an unknown key, or a value of another type than the key's.
    """
    defaults = values.flatten(config)
    read = {}
    for name, value in _leaves(given):
        key = keys.current_name(name)
        if key not in defaults:
            raise UserError(f"unknown config key {show(name)}.{nearest(name, list(defaults))}")
        default = defaults[key]
        if value is None and not isinstance(default, FieldReference):
            raise UserError(f"config.{key} is None, and has no such value; its default is {default!r}.")
        try:
            read[key] = parser(key, default).parse(_text(value))
        except ValueError as error:
            raise UserError(f"wrong value: config.{key}={show(value)}: {error}.") from error
    return apply(config, read)


def nearest(name: str, valid: Sequence[str]) -> str:
    """Suggest the keys of a group, else the key whose whole name and last word are spelled most alike."""
    group = [key for key in valid if key.startswith((f"{name}.", f"{current(name)}."))]
    if group:
        return f" It is a group of keys: {', '.join(group)}."

    def likeness(key: str) -> float:
        words = [(name, key), (name.rsplit(".", 1)[-1], key.rsplit(".", 1)[-1])]
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in words)

    return f" Did you mean {max(valid, key=likeness)}?"


def current(name: str) -> str:
    """What a key, or the flag of a key, is called today."""
    prefix = "config." if name.startswith("config.") else ""
    return prefix + keys.current_name(name.removeprefix(prefix))


def _leaves(given: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _text(value: Any) -> str:
    """As a flag has it."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    return ",".join(map(str, value)) if isinstance(value, Sequence) else str(value)
