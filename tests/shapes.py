"""Annotated shapes are checked at every call of the package, by jaxtyping's import hook with beartype.

Arrays alone: what else is annotated is mypy's, and tests may stand in for it with less than the real thing.
"""

import functools
import typing
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping

ROOMS = ("clip", "data", "roles", "methods", "parallel", "training", "evaluation")  # where arrays are
ARRAY = type(jaxtyping.Float[jaxtyping.Array, ""])  # jaxtyping's annotations are classes of this type


def install() -> None:
    """Has to come before the package is imported."""
    jaxtyping.install_import_hook([f"dear_jax.{room}" for room in ROOMS], "tests.shapes.check")


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """The type checker that the hook calls for each signature: beartype, of the annotations that hold an array."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint if holds_array(hint) else Any for name, hint in hints.items()}
    return _beartype(function)


def holds_array(hint: Any) -> bool:
    return isinstance(hint, ARRAY) or any(holds_array(part) for part in typing.get_args(hint))


# An int is a float, as for mypy.
_beartype = functools.partial(beartype.beartype, conf=beartype.BeartypeConf(is_pep484_tower=True))
