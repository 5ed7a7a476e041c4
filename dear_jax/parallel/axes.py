"""Runs in turn or side by side: the leading axes S (seeds) and V (variants).

`jax.vmap` works on all entries of an axis together, `in_turn` on one after the other.
"""

from collections.abc import Callable
from typing import Any

import jax


def in_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap(function)`, one entry after the other: memory is that of one."""
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)


def each_run(function: Callable[[Any, Any], Any], runs: Any, settings: Any) -> Any:
    """A function of every run, one after the other.

    Args:
        function: of the leaves of one run, and of its settings.
        runs: leaves `[S, V, ...]`.
        settings: leaves `[V, ...]`.
    """
    return in_turn(lambda seed: in_turn(function)(seed, settings))(runs)
