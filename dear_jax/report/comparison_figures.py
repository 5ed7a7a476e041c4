"""Figures that compare runs: curves over the number of shots, and bars for methods and the settings of an ablation.

In: a `Block` or a `Table` of `blocks.py`, and the looks of its rows by `method_styles.py`. A row whose cells have no
seeds, such as zero-shot CLIP's, is a reference: a dashed line; published rows are hollow markers. Curves differ by
marker and dashes as well as by color, bars by their labels, so that no figure needs color vision.
"""

import textwrap
from collections.abc import Collection
from typing import Any

import matplotlib as mpl
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from dear_jax.report.blocks import Block, Row, Table
from dear_jax.report.figure_files import save
from dear_jax.report.method_styles import Looks, complete

LOOKS: Any = {"text.parse_math": False}  # names are no formulas
REFERENCE: dict[str, Any] = dict(color="black", linestyle="--", linewidth=1)
BAR: dict[str, Any] = dict(edgecolor="black", linewidth=0.8)
PLAIN = "#56B4E9"  # a bar without looks
PANELS = 4  # in a row
LABEL_WIDTH = 36  # characters


def draw_curves(table: Table, path: epath.PathLike, looks: Looks | None = None) -> list[epath.Path]:
    """A panel per data set: accuracy over the number of shots, with the standard deviation over seeds.

    Args:
        table: of few-shot results; its columns are "1 shot", "2 shots", ....
        path: of the files, without their suffix.
        looks: of its rows; those that have none get some.

    Returns:
        The files.
    """
    names = list(dict.fromkeys(name for block in table.blocks for name in block.rows))
    of_rows = complete(looks, names)
    width, height = _grid(len(table.blocks))
    with mpl.rc_context(LOOKS):
        figure = Figure(figsize=(max(6.0, 3.4 * width), 1.0 + 2.9 * height), layout="constrained")
        panels = figure.subplots(height, width, squeeze=False).ravel()
        for axes, block in zip(panels, table.blocks, strict=False):
            _draw_panel(axes, block, of_rows)
        for axes in panels[len(table.blocks) :]:
            axes.remove()
        handles = {handle.get_label(): handle for axes in figure.axes for handle in axes.get_legend_handles_labels()[0]}
        figure.legend(
            handles=[handles[name] for name in names if name in handles],
            labels=[textwrap.fill(name, 2 * LABEL_WIDTH) for name in names if name in handles],
            loc="outside lower center",
            ncols=1 if width < 3 else 2,
            frameon=False,
        )
        figure.supylabel("top-1 accuracy in percent", fontsize=10)
        return save(figure, path)


def draw_bars(
    block: Block, title: str, path: epath.PathLike, looks: Looks | None = None, published: Collection[str] = ()
) -> list[epath.Path]:
    """A panel per column and a bar per setting, with the standard deviation over seeds.

    Bars start at the reference, where there is exactly one, so that their length is what a setting gains or loses.

    Args:
        block: rows are settings.
        title: of the figure.
        path: of the files, without their suffix.
        looks: of its rows; those that have none get one color.
        published: the rows that are hollow markers, not bars.

    Returns:
        The files; none where there is no setting but references and published rows.
    """
    references = {name: row for name, row in block.rows.items() if is_reference(row) and name not in published}
    settings = {name: row for name, row in block.rows.items() if name not in references}
    if settings.keys() <= set(published):
        return []
    start = next(iter(references.items())) if len(references) == 1 else None
    titles = [f"{name} (published)" if name in published else name for name in settings]
    labels = [textwrap.fill(title, LABEL_WIDTH) for title in titles]
    lines = sum(1 + label.count("\n") for label in labels)
    width, height = _grid(len(block.columns))
    with mpl.rc_context(LOOKS):
        size = (2.6 + 2.6 * width, 0.6 + height * (0.7 + 0.22 * lines + 0.22 * len(labels)))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(height, width, sharey=True, squeeze=False).ravel()
        for axes, column in zip(panels, block.columns, strict=False):
            _draw_settings(axes, settings, column, start[1] if start else {}, looks or {}, published)
        for axes in panels[len(block.columns) :]:
            axes.remove()
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.4, -0.6)
        what = "top-1 accuracy in percent" + (f"; dashed line: {start[0]}" if start else "")
        figure.suptitle(textwrap.fill(title, 24 + 22 * width), fontsize=11)
        figure.supxlabel(textwrap.fill(what, 24 + 22 * width), fontsize=9)
        return save(figure, path)


def _grid(panels: int) -> tuple[int, int]:
    """Panels in a row, and rows."""
    width = min(PANELS, panels)
    return width, -(-panels // width)


def is_reference(row: Row) -> bool:
    """Whether a row has no seeds, as zero-shot CLIP and published rows."""
    return not any(cell.seeds for cell in row.values())


def _draw_panel(axes: Axes, block: Block, looks: Looks) -> None:
    """The curves of one data set."""
    ticks = sorted({_shots(column) for column in block.columns})
    for name, look in looks.items():
        points = sorted((_shots(column), cell) for column, cell in block.rows.get(name, {}).items())
        shots, means = [x for x, _ in points], [cell.mean for _, cell in points]
        if not points:
            continue
        if is_reference(block.rows[name]):
            if len(set(means)) == 1:  # as zero-shot CLIP, whatever the shots
                axes.axhline(means[0], label=name, **REFERENCE)
            else:
                axes.plot(shots, means, label=name, **REFERENCE)
            continue
        line: dict[str, Any] = dict(color=look.color, marker=look.marker, linestyle=look.dashes, label=name)
        axes.errorbar(shots, means, [cell.std or 0 for _, cell in points], capsize=3, markersize=5, **line)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_title(block.title, fontsize=10)
    axes.set_xlabel("shots per class", fontsize=9)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _shots(column: str) -> int:
    return int(column.split()[0])


def _draw_settings(
    axes: Axes, settings: dict[str, Row], column: str, reference: Row, looks: Looks, published: Collection[str]
) -> None:
    """The bars and markers of one column; a setting without that accuracy has none."""
    start = reference[column].mean if column in reference else 0.0
    for place, (name, row) in enumerate(settings.items()):
        if column not in row:
            continue
        cell = row[column]
        color = looks[name].bar if name in looks else PLAIN
        if name in published:
            axes.plot(cell.mean, place, marker="D", color="white", markeredgecolor=color, markeredgewidth=1.6)
        else:
            looks_of_bar: dict[str, Any] = BAR | dict(facecolor=color)
            axes.barh(place, cell.mean - start, left=start, height=0.62, xerr=cell.std, capsize=3, **looks_of_bar)
        spread = "" if cell.std is None else f" ± {cell.std:.2f}"
        axes.annotate(
            f"{cell.mean:.2f}{spread}", (1.0, place), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8
        )
    axes.margins(x=0.08)
    if column in reference:
        axes.use_sticky_edges = False  # a margin also where the bars start
        axes.axvline(start, **REFERENCE)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.tick_params(axis="y", length=0)
    axes.set_title(column if not reference else f"{column} ({start:.2f})", fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)

