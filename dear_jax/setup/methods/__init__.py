"""The methods that `config.method` names: one row each. A module per method holds its keys and how it is built."""

import difflib
from typing import Any, Protocol

from dear_jax.errors import UserError, show
from dear_jax.setup.methods import (
    clip_lora,
    cocoop,
    coop,
    dear,
    linear_probe,
    lpp,
    maple,
    mmrl,
    mmrlpp,
    promptsrc,
    tcp,
    tip_adapter,
    tip_adapter_f,
)


class RoleSource(Protocol):
    """Where a method has the roles of attention heads from."""

    def roles(self, named: str, first_layer: int, attributes: tuple[str, ...]) -> Any:
        """The table of roles `[layer][head]` of layers first_layer..L: of the named map, or a fitting one."""


class Entry(Protocol):
    """What a module of this package has.

    It may also have `OPEN_CLASSES = False`, where it has no rule for classes that were not trained on, and `IN_EPOCHS`:
    keys of its recipe that go with the number of epochs.
    """

    @property
    def TITLE(self) -> str:
        """What tables call the method."""

    @property
    def Options(self) -> type[Any]:
        """A frozen dataclass: the keys of its group of the config, with defaults and meaning."""

    @property
    def ARRAYS(self) -> tuple[str, ...]:
        """Keys that variants may set apart without compiling again."""

    @property
    def STRUCTURAL(self) -> tuple[str, ...]:
        """Keys that variants may set apart, each with a program of its own."""

    @property
    def PRESETS(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Of `config.variants`: name -> variant -> key -> value."""

    def recipe(self, protocol: str, dataset: str, shots: int) -> dict[str, Any]:
        """What it trains by, as published: values of config keys, where they differ from `recipes.COMMON`.

        Under `remark`, if anything, what a user should be told of it: that none is published, say.
        """

    def problems(self, options: Any) -> dict[str, str]:
        """What is out of its range: key -> what is expected."""

    def remarks(self, options: Any) -> list[str]:
        """What a user should be told before a run with these options."""

    def build(self, options: Any, config: Any, dtype: Any, class_chunk: int) -> Any:
        """The `methods.contract.Method` on an architecture."""

    def settings(self, options: Any, method: Any, roles: RoleSource) -> Any:
        """The settings of one variant."""

    def start(self, options: Any) -> Any:
        """Where its adapters start."""

    def restore(self, structure: Any, config: Any, dtype: Any) -> Any:
        """The method that an adapter file describes."""


METHODS: dict[str, Entry] = {
    "dear": dear,
    "mmrl": mmrl,
    "promptsrc": promptsrc,
    "coop": coop,
    "maple": maple,
    "clip_lora": clip_lora,
    "tcp": tcp,
    "mmrlpp": mmrlpp,
    "tip_adapter": tip_adapter,
    "tip_adapter_f": tip_adapter_f,
    "lpp": lpp,
    "linear_probe": linear_probe,
    "cocoop": cocoop,
}


def find(name: str) -> Entry:
    """The row of a method.

    Raises:
        UserError: there is none of that name.
    """
    if name not in METHODS:
        near, known = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.0), ", ".join(METHODS)
        raise UserError(f"config.method is {show(name)}, expected one of {known}. The nearest is {near[0]}.")
    return METHODS[name]
