"""How near a step can come to its FLOPs' time: its matrix products one by one, at their own shapes.

    python -m experiments.speed.products --case=50,4,1 --dtype=bfloat16 --dtype=float32

A step is held against the time that its FLOPs need at the rate of one large product (`experiments.speed.step`).
Products of few rows do not reach that rate. Here each product that the step asks for (`dear_jax/tpu/flops.py`) is
compiled and timed by itself, in turns with the large one; the sum over the step, in terms of its FLOPs' time, is what
remains of the distance when everything else, from the softmax to the optimizer, takes no time. A compiler may join
products, and does better then.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dear_jax.tpu.flops import Product, products
from experiments.speed import arguments
from experiments.speed.case import Case
from experiments.speed.worker import PackageWorker, clock

AT_LEAST = 0.02  # seconds that a product is repeated for


def main() -> None:
    """Print a line for each case and dtype, and its slowest shapes."""
    parser = arguments.of_cases(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shown", type=int, default=5, help="shapes that lose most")
    options = parser.parse_args()
    for case in arguments.cases(options):
        describe(case, options.rounds, options.shown)


def describe(case: Case, rounds: int, shown: int) -> None:
    """Measure and print one case."""
    worker = PackageWorker(case)
    found = products(worker.jaxpr)
    flops = sum(times * product.flops for product, times in found.items())
    calls = {product: prepare(product) for product in found}
    spent: dict[Product, list[float]] = {product: [] for product in found}
    rates, steps = [], []
    for _ in range(rounds):
        steps.append(worker.step("1")["seconds"])
        measured = worker.product()
        rates.append(measured["flops"] / measured["seconds"])
        for product, call in calls.items():
            spent[product].append(call())
    rate = float(np.median(rates))
    by_product = {product: times * float(np.median(spent[product])) for product, times in found.items()}
    print(
        f"{case.method}, {case.classes} classes, batch {case.batch}, {case.seeds} seeds, {case.dtype}: the step takes "
        f"{np.median(steps) * rate / flops:.2f} times the time of its {flops / 1e9:.0f} GFLOP, its products one by one "
        f"{sum(by_product.values()) * rate / flops:.2f} times",
        flush=True,
    )
    lost = {product: taken - found[product] * product.flops / rate for product, taken in by_product.items()}
    for product in sorted(lost, key=lambda one: -lost[one])[:shown]:
        share = lost[product] * rate / flops
        speed = found[product] * product.flops / rate / by_product[product]
        print(f"  +{share:.2f}: {found[product]} x {product.left} by {product.right} at {speed:.2f} of the rate")


def prepare(product: Product) -> Callable[[], float]:
    """A function that gives the seconds of one such product."""
    drawn = np.random.default_rng(0)
    operands = [jnp.asarray(drawn.standard_normal(shape, np.float32)).astype(product.dtype) for shape in product[:2]]
    multiply = jax.jit(lambda left, right: jax.lax.dot_general(left, right, product.numbers))
    call: Any = multiply.lower(*operands).compile()

    def once() -> None:
        jax.block_until_ready(call(*operands))

    once()
    count = max(1, int(AT_LEAST / max(clock(once, 1)["seconds"], 1e-7)))

    def seconds() -> float:
        def repeat() -> None:
            for _ in range(count):
                once()

        return clock(repeat, count)["seconds"]

    return seconds


if __name__ == "__main__":
    main()
