"""Values of config keys: as text on the command line and in overrides, and as dataclasses in plans."""

import copy
import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_dict

from dear_jax.errors import show

Group = TypeVar("Group")

_NONE = object()  # stands for a None that was asked for: absl means by None that a flag is unset


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Defaults by dotted key; a placeholder stays a `FieldReference`, which may be None."""
    flat: dict[str, Any] = {}
    for key, value in config.items(preserve_field_references=True):
        if isinstance(value, ConfigDict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def flat_values(config: ConfigDict) -> dict[str, Any]:
    """Values by dotted key."""
    return {key: value.get() if isinstance(value, FieldReference) else value for key, value in flatten(config).items()}


def to_config(group: Any) -> ConfigDict:
    """A group of keys from the fields of a dataclass and their values; `int | None` becomes a placeholder."""
    config = ConfigDict()
    hints = typing.get_type_hints(type(group))
    for field in dataclasses.fields(group):
        value, kind = getattr(group, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            config[field.name] = to_config(value)
        elif isinstance(kind, types.UnionType):
            (kind,) = (one for one in typing.get_args(kind) if one is not type(None))
            config[field.name] = config_dict.placeholder(kind)
            config[field.name] = value
        else:
            config[field.name] = value
    return config


def read(kind: type[Group], group: ConfigDict, **given: Any) -> Group:
    """A dataclass from the keys of a group that are called like its fields; `given` are fields that are no keys."""
    values = dict(given)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in given:
            continue
        value = group[field.name]
        if isinstance(value, ConfigDict):
            value = read(typing.get_type_hints(kind)[field.name], value)
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def out_of_range(rules: Mapping[str, tuple[bool, str]]) -> dict[str, str]:
    """Of rules, key -> whether its value is in its range, and the range: those that are broken, key -> the range."""
    return {key: expected for key, (valid, expected) in rules.items() if not valid}


def set_all(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """A locked copy of the config with other values for some dotted keys."""
    copied = config.copy_and_resolve_references()
    copied.update_from_flattened_dict(dict(overrides))
    return copied.lock()


def set_open(config: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
    """The same; open keys stay open, and keep what they are to be."""
    copied = copy.deepcopy(config)
    copied.update_from_flattened_dict(dict(overrides))
    return copied.lock()


def plain(value: Any) -> Any:
    """What `Value.parse` has read, as the config takes it."""
    return None if value is _NONE else value


class Value(flags.ArgumentParser[Any]):
    """Reads one key's value, by the type of its default, and of a key with several values by that of their items."""

    def __init__(self, default: Any, item: Callable[[str], Any] = str) -> None:
        self._optional = isinstance(default, FieldReference)
        self._type = default.get_type() if self._optional else type(default)
        self._item = item

    def parse(self, argument: Any) -> Any:
        """The value, or ValueError with what was expected."""
        if self._optional and argument == "None":
            return _NONE
        if self._type is not tuple:
            return _scalar(str(argument), self._type)
        items = [item.strip().strip("'\"") for item in argument.strip().strip("()[]").split(",")]
        return tuple(_scalar(item, self._item) for item in items if item)


def number_or_name(text: str) -> float | str:
    """A number where it is one."""
    try:
        return float(text)
    except ValueError:
        return text


def span(text: str) -> tuple[int, int] | None:
    """The steps of FIRST:LAST; None for an empty text.

    Raises:
        ValueError: it is none of these.
    """
    if not text:
        return None
    first, last = (int(part) for part in text.split(":"))
    if not 1 <= first <= last:
        raise ValueError(f"{first} to {last}")
    return first, last


def is_span(text: str) -> bool:
    """Whether `span` can read it."""
    try:
        span(text)
    except ValueError:
        return False
    return True


def _scalar(text: str, kind: Callable[[str], Any]) -> Any:
    if kind is bool:
        words = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    raise ValueError(f"expected {kind.__name__}, found {show(text)}")
