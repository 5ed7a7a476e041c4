"""Figures of a role map: layers x heads map, entropy histogram, and what each head says and sees.

`role_map` is the JSON dictionary of a role map with entropies, thresholds and heads; layers count from 1, heads from 0.
"""

import textwrap
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from dear_jax.report.entropy_bins import entropy_bins
from dear_jax.report.figure_files import save
from dear_jax.report.heads import entropy_name
from dear_jax.report.role_styles import RoleStyle, role_styles

NO_FORMULAS: Any = {"text.parse_math": False}  # names are plain text, whatever they hold


@mpl.rc_context(NO_FORMULAS)
def draw_role_map(role_map: Mapping[str, Any], path: epath.PathLike) -> None:
    """A cell per head: role by color, code and hatch, Concept Entropy in bits as a number."""
    styles = role_styles(role_map["attributes"])
    layers, heads = len(role_map["roles"]), len(role_map["roles"][0])
    figure, axes = _figure(max(6.0, 1.2 + 0.62 * heads), 1.75 + 0.55 * layers)
    for row in range(layers):
        for head in range(heads):
            _draw_cell(axes, row, head, styles[role_map["roles"][row][head]], role_map["entropy"][row][head])
    axes.set(
        xlim=(0, heads),
        ylim=(layers, 0),
        xlabel="head",
        ylabel="layer",
        title=f"Head roles of {role_map['backbone']}",
    )
    axes.set_xticks(np.arange(heads) + 0.5, [str(head) for head in range(heads)])
    axes.set_yticks(np.arange(layers) + 0.5, [str(role_map["first_layer"] + row) for row in range(layers)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.legend(handles=_legend(styles), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    save(figure, path)


@mpl.rc_context(NO_FORMULAS)
def draw_entropy_histogram(role_map: Mapping[str, Any], path: epath.PathLike) -> None:
    """How many heads have which Concept Entropy, stacked by role, with the two thresholds."""
    styles = role_styles(role_map["attributes"])
    roles = np.array(role_map["roles"]).ravel()
    low, high = role_map["thresholds"]["low"], role_map["thresholds"]["high"]
    edges, bins = entropy_bins(np.array(role_map["entropy"], float).ravel().tolist(), low, high)
    present = {role: style for role, style in styles.items() if role in roles}
    figure, axes = _figure(7.0, 4.0)
    below = np.zeros(len(edges) - 1, int)
    for role, style in present.items():
        counts = np.bincount(np.array(bins)[roles == role], minlength=len(below))
        looks: dict[str, Any] = dict(facecolor=style.color, edgecolor="black", linewidth=0.8, hatch=style.hatch)
        axes.bar(edges[:-1], counts, np.diff(edges), bottom=below, align="edge", **looks)
        below += counts
    for threshold, name, side in ((low, "low", "right"), (high, "high", "left")):
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1)
        offset = (-4 if side == "right" else 4, -4)
        axes.annotate(
            f"{name} {threshold:.2f}",
            (threshold, 1),
            offset,
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha=side,
            va="top",
        )
    axes.margins(y=0.15)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlim=(min(0, edges[0]), edges[-1]), xlabel=f"{entropy_name(role_map)} in bits", ylabel="heads")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=_legend(present), loc="outside lower center", ncols=4, frameon=False)
    save(figure, path)


@mpl.rc_context(NO_FORMULAS)
def draw_heads(
    role_map: Mapping[str, Any], thumbnails: Mapping[str, np.ndarray], path: epath.PathLike, descriptions: int = 5
) -> None:
    """Per head the first `descriptions` descriptions and the images to which it contributes most.

    Args:
        role_map: the map's JSON dictionary.
        thumbnails: "images", uint8 [M, s, s, 3], and "top", int [layers, heads, n]: indices into them, -1 for none.
        path: of the files, without their suffix.
        descriptions: how many to print per head.
    """
    styles = role_styles(role_map["attributes"])
    columns = 3
    cells = [(row, head) for row in range(len(role_map["roles"])) for head in range(len(role_map["roles"][0]))]
    rows = -(-len(cells) // columns)
    height = 0.95 + 0.17 * descriptions
    figure = Figure(figsize=(4.4 * columns, height * rows))
    for cell, (row, head) in enumerate(cells):
        x, y = (cell % columns) / columns, 1 - (cell // columns + 1) / rows
        axes = figure.add_axes((x, y, 1 / columns, 1 / rows), xlim=(0, 4.4), ylim=(0, height), aspect="equal")
        axes.axis("off")
        _draw_head(axes, role_map, row, head, styles, descriptions, height)
        _draw_thumbnails(axes, thumbnails["images"], thumbnails["top"][row][head])
    save(figure, path, dpi=100)


def _draw_cell(axes: Axes, row: int, head: int, style: RoleStyle, entropy: float) -> None:
    axes.add_patch(Rectangle((head, row), 1, 1, facecolor=style.color, edgecolor="white", linewidth=2))
    if style.hatch:
        axes.add_patch(
            Rectangle(
                (head, row), 1, 1, fill=False, hatch=style.hatch, edgecolor=style.text_color, linewidth=0, alpha=0.3
            )
        )
    text: dict[str, Any] = dict(
        ha="center", va="center", color=style.text_color, bbox=dict(facecolor=style.color, edgecolor="none", pad=1.0)
    )
    axes.text(head + 0.5, row + 0.32, style.code, fontsize=10, fontweight="bold", **text)
    axes.text(head + 0.5, row + 0.7, f"{entropy:.2f}", fontsize=8.5, **text)


def _draw_head(
    axes: Axes,
    role_map: Mapping[str, Any],
    row: int,
    head: int,
    styles: Mapping[str, RoleStyle],
    descriptions: int,
    height: float,
) -> None:
    style = styles[role_map["roles"][row][head]]
    box = dict(facecolor=style.color, edgecolor="black", linewidth=0.5, pad=2.0)
    axes.text(
        0.1, height - 0.17, style.code, color=style.text_color, fontweight="bold", va="center", bbox=box, fontsize=9
    )
    title = (
        f"layer {role_map['first_layer'] + row}, head {head}: {style.name}, {role_map['entropy'][row][head]:.2f} bits"
    )
    axes.text(0.5, height - 0.17, title, va="center", fontsize=9, fontweight="bold")
    for rank, description in enumerate(role_map["heads"][row][head]["descriptions"][:descriptions]):
        text = textwrap.shorten(description["text"], 58, placeholder=" ...")
        y = height - 0.42 - 0.17 * rank
        axes.text(0.42, y, f"{100 * description['variance']:.0f} %", va="center", ha="right", fontsize=7.5)
        axes.text(0.5, y, text, va="center", fontsize=7.5)


def _draw_thumbnails(axes: Axes, images: np.ndarray, top: np.ndarray) -> None:
    shown = [int(index) for index in top if index >= 0][:8]
    for place, index in enumerate(shown):
        left = 0.1 + 0.52 * place
        axes.imshow(images[index], extent=(left, left + 0.48, 0.08, 0.56), interpolation="bilinear")
    axes.set(xlim=(0, 4.4), ylim=(0, axes.get_ylim()[1]))


def _legend(styles: Mapping[str, RoleStyle]) -> list[Patch]:
    return [
        Patch(facecolor=s.color, edgecolor="black", linewidth=0.5, hatch=s.hatch, label=f"{s.code}  {s.name}")
        for s in styles.values()
    ]


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()

