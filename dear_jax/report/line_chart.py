"""Where the lines of a page's charts go: one per series, as over the steps of a run, with rounded ticks."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

from dear_jax.report.role_styles import ATTRIBUTE_COLORS

WIDTH, HEIGHT = 340, 150  # of the plot, in its own units
POINTS = 400  # of a line at most: more than it has pixels
COLORS = (*ATTRIBUTE_COLORS[:-1], "#808080")  # yellow is too light for a line
DASHES = ("", "6 3", "2 2", "8 3 2 3")

Point = tuple[float, float]  # step and value


@dataclasses.dataclass(frozen=True)
class Line:
    """A series in the units of the picture, x to the right and y down."""

    name: str
    points: str  # of a polyline
    color: str
    dashes: str  # of SVG
    first: float  # value
    last: float


@dataclasses.dataclass(frozen=True)
class LineChart:
    """Lines and ticks in the same units."""

    title: str
    lines: tuple[Line, ...]
    x_ticks: Mapping[str, float]  # label -> x
    y_ticks: Mapping[str, float]  # label -> y
    x_title: str


def line_chart(title: str, series: Mapping[str, Sequence[Point]], x_title: str = "steps") -> LineChart:
    """A chart of series with at least a point each."""
    points = [point for of_series in series.values() for point in of_series]
    right = max(max(x for x, _ in points), 1.0)
    low, high = min(y for _, y in points), max(y for _, y in points)
    y_ticks = ticks(low, high)
    low, high = min(low, y_ticks[0]), max(high, y_ticks[-1])
    scale = HEIGHT / (high - low)

    def place(x: float, y: float) -> str:
        return f"{x / right * WIDTH:.1f},{(high - y) * scale:.1f}"

    looks = itertools.product(DASHES, COLORS)  # the colors first: few series differ by color alone
    lines = tuple(
        Line(
            name,
            " ".join(place(x, y) for x, y in thinned(of_series)),
            color,
            dashes,
            of_series[0][1],
            of_series[-1][1],
        )
        for (name, of_series), (dashes, color) in zip(series.items(), itertools.cycle(looks), strict=False)
    )
    return LineChart(
        title,
        lines,
        {f"{tick:g}": tick / right * WIDTH for tick in ticks(0, right) if tick <= right},
        {f"{tick:g}": (high - tick) * scale for tick in y_ticks},
        x_title,
    )


def thinned(points: Sequence[Point]) -> list[Point]:
    """Evenly chosen points, the last always among them."""
    every = -(-len(points) // POINTS)
    return [point for place, point in enumerate(points) if (len(points) - 1 - place) % every == 0]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from at most `low` to at least `high`."""
    wide = max(high - low, abs(high) / 100) or 1.0  # what hardly changes is a flat line
    size = 10.0 ** math.floor(math.log10(wide / about))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * about >= wide * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * place, 12) for place in range(first, max(last, first + 1) + 1)]
