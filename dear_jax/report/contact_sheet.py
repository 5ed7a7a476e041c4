"""Queries and what each feature retrieves for them, as a PNG and as one HTML file that opens without a network.

Whether a found image has the query's label is said by its frame (solid or dashed), a color and a sign.
"""

import dataclasses
import io

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dear_jax.report import pages

SAME, OTHER, UNKNOWN = "#009E73", "#D55E00", "#999999"  # of Okabe and Ito (2008)
INCH = 0.68  # side of a cell of the PNG
HEADER = 1.2  # cells
LABEL = 2.3  # cells: width of the column with the features' names
LEAST_WIDTH = 13.6  # cells, for the lines above all
LEGEND = (
    "Best first; each image as the model sees it, cropped to its middle. Solid green frame: the query's label of this "
    "row; dashed: another label; grey: not known."
)
DPI = 110


@dataclasses.dataclass(frozen=True)
class Hit:
    """A retrieved image."""

    picture: int  # its place in the sheet's pictures
    cosine: float
    same: bool | None  # whether it has the query's label; None: not known
    label: str = ""  # its own of that kind


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What one feature retrieves, best first."""

    feature: str
    label: str  # the kind of label that `same` speaks of; empty if there is none
    hits: tuple[Hit, ...]

    @property
    def precision(self) -> str:
        """Which share of the shown images has the query's label."""
        if not self.label:
            return ""
        share = sum(bool(hit.same) for hit in self.hits) / len(self.hits)
        return f"precision@{len(self.hits)} of {self.label}: {100 * share:.0f} %"


@dataclasses.dataclass(frozen=True)
class Query:
    """A query with its rankings."""

    picture: int
    rankings: tuple[Ranking, ...]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """All that is shown."""

    title: str
    about: str  # whose features these are: adapter, seed, backbone
    pictures: np.ndarray  # uint8 [M, s, s, 3], each once
    titles: tuple[str, ...]  # M texts that say what a picture is
    queries: tuple[Query, ...]


@mpl.rc_context({"text.parse_math": False})  # names are plain text, whatever they hold
def to_png(sheet: Sheet) -> bytes:
    """A block per query: its picture on the left, a row per feature."""
    columns = max(len(ranking.hits) for query in sheet.queries for ranking in query.rankings)
    width = max(LEAST_WIDTH, 1.3 + LABEL + columns)
    height = HEADER + sum(len(query.rankings) + 0.5 for query in sheet.queries)
    figure = Figure(figsize=(INCH * width, INCH * height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    axes.text(0.15, 0.3, sheet.title, va="center", fontsize=11, fontweight="bold")
    axes.text(0.15, 0.62, sheet.about, va="center", fontsize=8)
    axes.text(0.15, 0.9, LEGEND, va="center", fontsize=7)
    top = HEADER
    for query in sheet.queries:
        axes.imshow(
            sheet.pictures[query.picture], extent=(0.15, 1.25, top + 1.15, top + 0.05), interpolation="bilinear"
        )
        axes.text(0.7, top + 1.35, "query", ha="center", va="center", fontsize=8)
        for ranking in query.rankings:
            axes.text(1.45, top + 0.38, ranking.feature, va="center", fontsize=9, fontweight="bold")
            axes.text(1.45, top + 0.66, ranking.precision, va="center", fontsize=6.5)
            for place, hit in enumerate(ranking.hits):
                left = 1.3 + LABEL + place
                extent = (left + 0.06, left + 0.94, top + 0.94, top + 0.06)
                axes.imshow(sheet.pictures[hit.picture], extent=extent, interpolation="bilinear")
                color, style = _frame(hit)
                axes.add_patch(
                    Rectangle((left + 0.06, top + 0.06), 0.88, 0.88, fill=False, edgecolor=color, linestyle=style, lw=2)
                )
            top += 1
        top += 0.5
    axes.set(xlim=(0, width), ylim=(height, 0))  # imshow has changed them
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI, format="png")
    return buffer.getvalue()


def to_html(sheet: Sheet) -> str:
    """The page: each picture is in it once; what it is stands in a list below, too, for whoever cannot point at it."""
    return pages.render("contact_sheet.html", sheet=sheet)


def _frame(hit: Hit) -> tuple[str, str]:
    if hit.same is None:
        return UNKNOWN, "solid"
    return (SAME, "solid") if hit.same else (OTHER, "dashed")
