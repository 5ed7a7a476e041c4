"""Charts of accuracy over ever more ablated heads, for the pages of a role map and of a run.

In: what `curves.summarize` of the room of roles gives. Out: a chart for each score. Their form is in
templates/head_curves.html.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dear_jax.report.line_chart import LineChart, line_chart

SCORES = {
    "entropy": "By the entropy of its role",
    "variance": "By the variance of its contribution",
    "attribution": "By logit attribution",
}


@dataclasses.dataclass(frozen=True)
class HeadCurves:
    """A score's chart, and the area between its curves in points."""

    chart: LineChart
    area: float  # positive where accuracy needs the heads with a high score
    random_area: float  # what two random orders differ by: a standard deviation


def head_curves(curves: Mapping[str, Any], who: str = "") -> Iterator[HeadCurves]:
    """Accuracy from the highest score on, from the lowest, and at random, of every score; `who` goes into titles."""
    random = curves["random"]

    def points(values: Sequence[float]) -> list[tuple[float, float]]:
        return list(zip(curves["points"], values, strict=True))

    for name, found in curves["scores"].items():
        lines = {
            "highest first": points(found["highest"]),
            "lowest first": points(found["lowest"]),
            "random orders, mean": points(random["mean"]),
            "5 % of them below": points(random["low"]),
            "95 % of them below": points(random["high"]),
        }
        title = f"{who}: {SCORES.get(name, name).lower()}" if who else SCORES.get(name, name)
        yield HeadCurves(line_chart(title, lines, "ablated heads"), found["area"], found["random_area"])
