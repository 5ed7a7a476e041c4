"""Charts of a page: ticks are round and enclose the values, lines lie within the plot."""

import numpy as np
import pytest

from dear_jax.report import line_chart
from dear_jax.report.line_chart import HEIGHT, POINTS, WIDTH


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 5, 10]),
        (0.31, 0.9, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3, 1, [-3, -2, -1, 0, 1]),
        (0.9, 0.9000001, [0.9, 0.905]),
        (0, 0, [0, 0.5]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, expected):
    found = line_chart.ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("values", [[3.0], [2.0, 2.0], [1e-5, 3e5, -2.0], list(np.geomspace(1, 1e-6, 5000))])
def test_lines_lie_within_the_plot(values):
    series = {"one": list(enumerate(values, start=1)), "two": [(1, 0.5)]}
    chart = line_chart.line_chart("loss", series)
    points = [[tuple(map(float, point.split(","))) for point in line.points.split()] for line in chart.lines]
    for x, y in (point for line in points for point in line):
        assert 0 <= x <= WIDTH
        assert -0.1 <= y <= HEIGHT + 0.1
    assert len(points[0]) == min(len(values), -(-len(values) // -(-len(values) // POINTS)))
    assert points[0][-1][0] == pytest.approx(WIDTH, abs=0.1)
    assert (chart.lines[0].first, chart.lines[0].last) == (values[0], values[-1])
    assert all(0 <= y <= HEIGHT + 1e-6 for y in chart.y_ticks.values())


def test_series_look_different():
    chart = line_chart.line_chart("loss", {str(number): [(1, 1.0)] for number in range(28)})
    assert len({(line.color, line.dashes) for line in chart.lines}) == 28
