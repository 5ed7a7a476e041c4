"""Figures of what a method gains and what it costs, a point for each.

In: a `Block` of `blocks.py` and the looks of its rows. Base against new accuracy with lines of equal harmonic mean, and
accuracy against trainable parameters or the time of a training step.
"""

import textwrap
from collections.abc import Collection, Mapping
from statistics import median
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from dear_jax.data.protocols import harmonic_mean
from dear_jax.report.blocks import Block, Cell
from dear_jax.report.comparison_figures import LABEL_WIDTH, LOOKS, REFERENCE, is_reference
from dear_jax.report.figure_files import save
from dear_jax.report.method_styles import Look, Looks, complete
from dear_jax.report.tables import TITLES

BASE, NEW, HM = TITLES["base"], TITLES["new"], TITLES["hm"]
SIZE = (7.6, 5.2)  # inches
TITLE_WIDTH = 52  # characters
FAINT = "#9A9A9A"
COSTS = {
    "parameters": "trainable parameters of one seed",
    "step_seconds": "seconds of a training step, shared out to its seeds",
}
Cost = Literal["parameters", "step_seconds"]


def draw_pairs(
    block: Block, title: str, path: epath.PathLike, looks: Looks | None = None, published: Collection[str] = ()
) -> list[epath.Path]:
    """Base against new accuracy: a point per row, its standard deviations over seeds, and lines of equal HM.

    Args:
        block: rows that lack one of the two are left out.
        title: of the figure.
        path: of the files, without their suffix.
        looks: of its rows.
        published: the rows whose points are hollow.

    Returns:
        The files; none where there is no point but references.
    """
    points = {name: (row[BASE], row[NEW]) for name, row in block.rows.items() if {BASE, NEW} <= row.keys()}
    if all(is_reference(block.rows[name]) for name in points):
        return []
    of_rows = complete(looks, points)
    with mpl.rc_context(LOOKS):
        figure, axes = _figure(title)
        for name, (base, new) in points.items():
            hollow = name in published
            label = f"{name} (published)" if hollow else name
            _draw_point(axes, (base.mean, new.mean), (base.std, new.std), of_rows[name], hollow, label)
        _set_limits(axes, list(points.values()))
        _draw_means(axes)
        axes.set(xlabel=f"{BASE}, top-1 accuracy in percent", ylabel=f"{NEW}, top-1 accuracy in percent")
        _add_legend(figure, axes)
        return save(figure, path)


def draw_costs(
    block: Block, column: str, cost: Cost, title: str, path: epath.PathLike, looks: Looks | None = None
) -> list[epath.Path]:
    """Accuracy against what it costs: a point per row whose cost is known; references are dashed lines.

    A method may have more parameters on one data set than on another: the point is at the median, the bar from the
    least to the greatest.

    Args:
        block: of one data set or the average.
        column: the accuracy.
        cost: of the cells.
        title: of the figure.
        path: of the files, without their suffix.
        looks: of its rows.

    Returns:
        The files; none where there are no two points.
    """
    cells = {name: row[column] for name, row in block.rows.items() if column in row}
    costs = {name: _costs(cell, cost) for name, cell in cells.items() if _costs(cell, cost)}
    if len(costs) < 2:
        return []
    of_rows = complete(looks, costs)
    with mpl.rc_context(LOOKS):
        figure, axes = _figure(title)
        for name, found in costs.items():
            place, cell = median(found), cells[name]
            spread = ((place - min(found),), (max(found) - place,)) if len(set(found)) > 1 else None
            _draw_point(axes, (place, cell.mean), (spread, cell.std), of_rows[name], False, name)
        for name, cell in cells.items():
            if name not in costs and is_reference(block.rows[name]):
                axes.axhline(cell.mean, label=name, **REFERENCE)
        axes.margins(0.08)
        _scale(axes, costs)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.grid(color="#E6E6E6", linewidth=0.6)
        axes.set(xlabel=COSTS[cost], ylabel=f"{column}, top-1 accuracy in percent")
        _add_legend(figure, axes)
        return save(figure, path)


def _costs(cell: Cell, cost: Cost) -> tuple[float, ...]:
    if cost == "parameters":
        return cell.parameters
    return () if cell.step_seconds is None else (cell.step_seconds,)


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    lines = [textwrap.fill(line, TITLE_WIDTH) for line in title.splitlines()]
    axes.set_title("\n".join(lines), fontsize=11, pad=14)
    return figure, axes


def _draw_point(axes: Axes, place: tuple[float, float], spread: Any, look: Look, hollow: bool, label: str) -> None:
    """A point with bars; hollow ones lie below the others."""
    looks: dict[str, Any] = dict(
        color=look.color,
        marker=look.marker,
        markersize=8,
        markerfacecolor="white" if hollow else look.color,
        markeredgecolor=look.color if hollow else "black",
        markeredgewidth=1.4 if hollow else 0.6,
        elinewidth=1,
        capsize=2.5,
        linestyle="none",
        zorder=3 if hollow else 4,
    )
    axes.errorbar(*place, xerr=spread[0], yerr=spread[1], label=label, **looks)


def _set_limits(axes: Axes, points: list[tuple[Cell, Cell]]) -> None:
    """All points and their bars, with some air; at least two percent of each axis."""
    limits = []
    for cells in zip(*points, strict=True):
        ends = [cell.mean + sign * (cell.std or 0) for cell in cells for sign in (-1, 1)]
        air = max(1.0, 0.08 * (max(ends) - min(ends)))
        limits.append((max(0.0, min(ends) - air), min(100.0, max(ends) + air)))
    axes.set(xlim=limits[0], ylim=limits[1])


def _draw_means(axes: Axes) -> None:
    """Lines of equal harmonic mean, each with its value where it leaves the panel to the right or below."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    levels = MaxNLocator(8, integer=True).tick_values(harmonic_mean(left, bottom), harmonic_mean(right, top))
    base = np.linspace(left, right, 400)
    for level in (float(level) for level in levels if level > 0):
        new = np.divide(level * base, 2 * base - level, out=np.full_like(base, np.inf), where=2 * base > level)
        inside = (new >= bottom) & (new <= top)
        if inside.sum() < 2:
            continue
        axes.plot(base[inside], new[inside], color=FAINT, linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
        looks: dict[str, Any] = dict(color="#6A6A6A", fontsize=7.5, textcoords="offset points", zorder=2)
        end = (base[inside][-1], new[inside][-1])
        if inside[-1]:
            axes.annotate(f"{level:g}", end, (3, 0), va="center", annotation_clip=False, **looks)
        elif end[0] < right - 0.04 * (right - left):  # else its number would touch those at the right
            axes.annotate(f"{level:g}", end, (2, 2), va="bottom", **looks)
    corner: dict[str, Any] = dict(xycoords="axes fraction", textcoords="offset points", color="#6A6A6A", fontsize=7.5)
    axes.annotate(HM, (1, 1), (3, 2), annotation_clip=False, **corner)


def _scale(axes: Axes, costs: Mapping[str, tuple[float, ...]]) -> None:
    """Logarithmic, with numbers written out; where something costs nothing, with a zero at the left."""
    found = [number for of_row in costs.values() for number in of_row]
    least = min((number for number in found if number > 0), default=1.0)
    low, high = least / 2, max(*found, least) * 2  # so that some number stands at the axis, however near points are
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    # Few powers of ten have numbers between them, too.
    parts = (1, 2, 5) if high < 300 * low else (1,)
    ticks = [part * 10.0**power for power in range(first, last + 1) for part in parts]
    if min(found) > 0:
        axes.set_xscale("log")
        axes.set_xlim(low, high)
    else:
        axes.set_xscale("symlog", linthresh=10.0**first, linscale=0.5)
        axes.set_xlim(-0.4 * 10.0**first, high)
        ticks = [0.0, *ticks]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,.10g}"))


def _add_legend(figure: Figure, axes: Axes) -> None:
    """At the right of the panel, in the order of the rows."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        [handle[0] if isinstance(handle, ErrorbarContainer) else handle for handle in handles],  # without its bars
        [textwrap.fill(label, LABEL_WIDTH) for label in labels],
        loc="outside right upper",
        frameon=False,
        fontsize=8,
    )
