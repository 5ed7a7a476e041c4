"""Queries and what each feature retrieves for them, as a PNG and as one HTML file that opens without a network.

Whether a found image has the query's label is said by its frame (solid or dashed), a color and a sign.
"""

import dataclasses
import io
from html import escape
from importlib import resources
from string import Template

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dear_jax.report.page import sprites

SAME, OTHER, UNKNOWN = "#009E73", "#D55E00", "#999999"  # of Okabe and Ito (2008)
INCH = 0.68  # side of a cell of the PNG
HEADER = 0.9  # cells
LABEL = 2.3  # cells: width of the column with the features' names
LEGEND = "Best first. Solid green frame: the query's label of this row; dashed: another label; grey: not known."
DPI = 110


@dataclasses.dataclass(frozen=True)
class Hit:
    """A retrieved image."""

    picture: int  # its place in the sheet's pictures
    cosine: float
    same: bool | None  # whether it has the query's label; None: not known


@dataclasses.dataclass(frozen=True)
class Ranking:
    """What one feature retrieves, best first."""

    feature: str
    label: str  # the kind of label that `same` speaks of; empty if there is none
    hits: tuple[Hit, ...]


@dataclasses.dataclass(frozen=True)
class Query:
    """A query with its rankings."""

    picture: int
    rankings: tuple[Ranking, ...]


@dataclasses.dataclass(frozen=True)
class Sheet:
    """All that is shown."""

    title: str
    pictures: np.ndarray  # uint8 [M, s, s, 3], each once
    titles: tuple[str, ...]  # M texts that say what a picture is
    queries: tuple[Query, ...]


def to_png(sheet: Sheet) -> bytes:
    """A block per query: its picture on the left, a row per feature."""
    columns = max(len(ranking.hits) for query in sheet.queries for ranking in query.rankings)
    width = 1.3 + LABEL + columns
    height = HEADER + sum(len(query.rankings) + 0.5 for query in sheet.queries)
    figure = Figure(figsize=(INCH * width, INCH * height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.axis("off")
    axes.text(0.15, 0.3, _plain(sheet.title), va="center", fontsize=11, fontweight="bold")
    axes.text(0.15, 0.62, LEGEND, va="center", fontsize=8)
    top = HEADER
    for query in sheet.queries:
        axes.imshow(
            sheet.pictures[query.picture], extent=(0.15, 1.25, top + 1.15, top + 0.05), interpolation="bilinear"
        )
        axes.text(0.7, top + 1.35, "query", ha="center", va="center", fontsize=8)
        for ranking in query.rankings:
            axes.text(1.45, top + 0.38, _plain(ranking.feature), va="center", fontsize=9, fontweight="bold")
            axes.text(1.45, top + 0.66, _plain(share(ranking)), va="center", fontsize=7)
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
    """The page: each picture is in it once, and says what it is when pointed at."""
    page = resources.files("dear_jax.report") / "page"
    sheets = [f".s{i} {{ background-image: url({uri}); }}" for i, uri in enumerate(sprites.sheets(sheet.pictures))]
    style = (page / "contact_sheet.css").read_text(encoding="utf-8")
    return Template((page / "contact_sheet.html.template").read_text(encoding="utf-8")).substitute(
        title=escape(sheet.title),
        style="\n".join([style, *sheets]),
        queries="\n".join(_section(sheet, number, query) for number, query in enumerate(sheet.queries, start=1)),
    )


def share(ranking: Ranking) -> str:
    """How many of the shown images have the query's label."""
    if not ranking.label:
        return ""
    return f"{sum(bool(hit.same) for hit in ranking.hits)} of {len(ranking.hits)} same {ranking.label}"


def _frame(hit: Hit) -> tuple[str, str]:
    if hit.same is None:
        return UNKNOWN, "solid"
    return (SAME, "solid") if hit.same else (OTHER, "dashed")


def _section(sheet: Sheet, number: int, query: Query) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{escape(ranking.feature)}<small>{escape(share(ranking))}</small></th>'
        + "".join(f"<td>{_hit(sheet, hit)}</td>" for hit in ranking.hits)
        + "</tr>"
        for ranking in query.rankings
    )
    return (
        f'<section aria-labelledby="q{number}"><h2 id="q{number}">Query {number}</h2>\n'
        f'<div class="block"><figure>{_picture(sheet, query.picture, "query", "")}'
        f"<figcaption>{escape(sheet.titles[query.picture])}</figcaption></figure>\n"
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="q{number}"><table>\n{rows}\n</table></div>'
        "</div></section>"
    )


def _hit(sheet: Sheet, hit: Hit) -> str:
    kind, sign = {None: ("unknown", ""), True: ("same", "✓ "), False: ("other", "✗ ")}[hit.same]
    return f'{_picture(sheet, hit.picture, kind, kind)}<span class="cosine">{sign}{hit.cosine:.2f}</span>'


def _picture(sheet: Sheet, index: int, kind: str, word: str) -> str:
    number, x, y = sprites.place(index)
    title = escape(sheet.titles[index] + (f": {word} label" if word in ("same", "other") else ""), quote=True)
    return (
        f'<span class="picture {kind} s{number}" style="background-position: {x:.4g}% {y:.4g}%" role="img" '
        f'aria-label="{title}" title="{title}"></span>'
    )


def _plain(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")
