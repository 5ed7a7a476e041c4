"""FLOPs of the matrix products that a function asks for, before a compiler has seen it.

Against these, `program_cost.measure` shows what a compiled program repeats on every chip.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from jax.core import ShapedArray
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
    return sum(times * product.flops for product, times in products(jaxpr).items())


class Product(NamedTuple):
    """One matrix product, as `jax.lax.dot_general` has it."""

    left: tuple[int, ...]  # shapes
    right: tuple[int, ...]
    numbers: tuple[Any, Any]  # contracted axes, batch axes
    dtype: str

    @property
    def flops(self) -> float:
        """An addition and a multiplication for each term."""
        (_, right), (_, batch) = self.numbers
        columns = math.prod(n for axis, n in enumerate(self.right) if axis not in (*right, *batch))
        return 2.0 * columns * math.prod(self.left)


def products(jaxpr: Jaxpr | ClosedJaxpr) -> Counter[Product]:
    """Every product that a result is computed from, and how often it is done.

    Raises:
        ValueError: as `product_flops`.
    """
    whole = jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    needed, _ = partial_eval.dce_jaxpr(whole, True)
    return _find(needed)


def _find(jaxpr: Jaxpr | ClosedJaxpr) -> Counter[Product]:
    found: Counter[Product] = Counter()
    for equation in (jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr).eqns:
        kind = equation.primitive.name
        if kind == "dot_general":
            left, right = (cast(ShapedArray, variable.aval) for variable in equation.invars)
            found[Product(left.shape, right.shape, equation.params["dimension_numbers"], left.dtype.name)] += 1
        elif kind == "cond":  # the branches of platforms do the same, and of others one is taken
            branches = map(_find, equation.params["branches"])
            found += max(branches, key=lambda branch: sum(n * product.flops for product, n in branch.items()))
        elif kind in ("while", "conv_general_dilated"):
            raise ValueError(f"cannot count the products of {kind}")
        else:
            turns = equation.params["length"] if kind == "scan" else 1
            for inner in _inner(equation.params.values()):
                found.update({product: turns * times for product, times in _find(inner).items()})
    return found


def _inner(values: Any) -> Iterator[Jaxpr | ClosedJaxpr]:
    for value in values:
        if isinstance(value, Jaxpr | ClosedJaxpr):
            yield value
        elif isinstance(value, tuple | list):
            yield from _inner(value)
