"""Values of config keys as text: on the command line, and in the overrides of a variant."""

from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference

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


def plain(value: Any) -> Any:
    """What `Value.parse` has read, as the config takes it."""
    return None if value is _NONE else value


class Value(flags.ArgumentParser[Any]):
    """Reads one key's value, by the type of its default."""

    def __init__(self, default: Any) -> None:
        self._optional = isinstance(default, FieldReference)
        self._type = default.get_type() if self._optional else type(default)
        self._default = default.get() if self._optional else default

    def parse(self, argument: Any) -> Any:
        """The value, or ValueError with what was expected."""
        if self._optional and argument == "None":
            return _NONE
        if self._type is not tuple:
            return _scalar(str(argument), self._type)
        items = [item.strip().strip("'\"") for item in argument.strip().strip("()[]").split(",")]
        kinds = {type(item) for item in self._default or ()}
        kind = kinds.pop() if len(kinds) == 1 else float if kinds == {int, float} else str
        return tuple(_scalar(item, kind) for item in items if item)


def _scalar(text: str, kind: type) -> Any:
    if kind is bool:
        words = {"true": True, "1": True, "false": False, "0": False}
        if text.lower() in words:
            return words[text.lower()]
    elif kind in (int, float, str):
        try:
            return kind(text)
        except ValueError:
            pass
    raise ValueError(f"expected {kind.__name__}, found {text!r}")
