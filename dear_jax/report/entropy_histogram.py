"""Where the squares of a page's entropy histogram go: one per head, stacked where its Concept Entropy is."""

import dataclasses
from collections.abc import Mapping, Sequence

from dear_jax.report.entropy_bins import entropy_bins
from dear_jax.report.heads import Head

WIDTH = 340  # of the picture, in its own units


@dataclasses.dataclass(frozen=True)
class Histogram:
    """In the units of the picture, x to the right and y down."""

    width: int
    floor: float  # y of the axis
    side: float  # of a square
    squares: tuple[tuple[Head, float, float], ...]  # with x and y of the upper left corner
    thresholds: Mapping[str, float]  # name -> x
    ticks: Mapping[float, float]  # bits -> x


def entropy_histogram(heads: Sequence[Head], thresholds: Mapping[str, float]) -> Histogram:
    """The heads by role and Concept Entropy, beside the thresholds "low" and "high" in bits."""
    ordered = sorted(heads, key=lambda head: (head.style.number, head.entropy))
    edges, places = entropy_bins([head.entropy for head in ordered], thresholds["low"], thresholds["high"])
    side = WIDTH / (len(edges) - 1)
    floor = 26 + side * max(places.count(place) for place in places)
    scale = side / (edges[1] - edges[0])
    return Histogram(
        width=WIDTH,
        floor=floor,
        side=side,
        squares=tuple(
            (head, side * place, floor - side * (places[:i].count(place) + 1))
            for i, (head, place) in enumerate(zip(ordered, places, strict=True))
        ),
        thresholds={name: scale * (bits - edges[0]) for name, bits in thresholds.items()},
        ticks={tick: scale * (tick - edges[0]) for tick in _ticks(edges[-1])},
    )


def _ticks(end: float) -> list[float]:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if end / step <= 8)
    return [round(step * i, 6) for i in range(int(end / step) + 1)]
