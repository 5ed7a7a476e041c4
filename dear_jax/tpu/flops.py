"""FLOPs of the matrix products that a function asks for, before a compiler has seen it.

Against these, `program_cost.measure` shows what a compiled program repeats on every chip.
"""

import math
from collections.abc import Iterator
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters import partial_eval


def product_flops(jaxpr: Jaxpr | ClosedJaxpr) -> float:
    """An addition and a multiplication for each term of each product; a scan counts every turn.

    Products from which no result is computed do not count.

    Args:
        jaxpr: such as `jax.jit(function).trace(*shapes).jaxpr`.

    Raises:
        ValueError: a loop whose number of turns depends on data, or a convolution, which nothing here uses.
    """
    whole = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    needed, _ = partial_eval.dce_jaxpr(whole, True)
    return _count(needed)


def _count(jaxpr: Jaxpr | ClosedJaxpr) -> float:
    flops = 0.0
    for equation in (jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr).eqns:
        kind = equation.primitive.name
        if kind == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = math.prod(_shape(equation.invars[0])[axis] for axis in contracted)
            flops += 2.0 * math.prod(_shape(equation.outvars[0])) * terms
        elif kind == "cond":  # the branches of platforms do the same, and of others one is taken
            flops += max(_count(branch) for branch in equation.params["branches"])
        elif kind in ("while", "conv_general_dilated"):
            raise ValueError(f"cannot count the products of {kind}")
        else:
            turns = equation.params["length"] if kind == "scan" else 1
            flops += turns * sum(_count(inner) for inner in _inner(equation.params.values()))
    return flops


def _shape(variable: Any) -> tuple[int, ...]:
    return tuple(variable.aval.shape)


def _inner(values: Any) -> Iterator[Jaxpr | ClosedJaxpr]:
    for value in values:
        if isinstance(value, Jaxpr | ClosedJaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _inner(value)
