"""How time and memory of a training step grow: with classes, batch, seeds, variants and image size (ViT-B/16).

    python -m experiments.speed.growth --plot=growth.png

One size at a time is changed, from 50 classes, batch 4, one seed and variant, 224 pixels. Each size is measured in a
process of its own. Under the rows of each stand the fitted slopes of log time and log memory over log size (1:
proportional), over all sizes and over the two largest. Shots change the number of steps of an epoch and nothing of a
step.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dear_jax.report.figure_files import save
from experiments.speed.case import Case
from experiments.speed.step import PACKAGE, Workers, commands, measure

BASE = Case(classes=50, batch=4)
SIZES: dict[str, tuple[int, ...]] = {
    "classes": (10, 100, 1000, 10000),
    "batch": (1, 4, 16),
    "seeds": (1, 3),
    "variants": (1, 3),
    "image_size": (112, 224, 336),
}


def main() -> None:
    """Measure, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=json.loads, default=SIZES, help="JSON: what to change, and to which values")
    parser.add_argument("--class_chunk", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="figure, as PNG, SVG and PDF of this name")
    arguments = parser.parse_args()
    measured: dict[str, list[Row]] = {}
    print("| what | value | s/step | CPU s/step | XLA MiB | peak RSS MiB | GFLOP |\n|---|" + "---:|" * 6)
    for what, values in arguments.sizes.items():
        for value in values:
            case = dataclasses.replace(BASE, class_chunk=arguments.class_chunk, **{what: value})
            with Workers(commands(case, with_torch=False, beside={})) as workers:
                workers.wait()
                row = Row.of(value, measure(case, workers, arguments.rounds, steps=1, evaluation=False))
            measured.setdefault(what, []).append(row)
            print(
                f"| {what} | {value} | {row.seconds:.2f} | {row.cpu_seconds:.2f} | {row.compiler / 2**20:.0f} | "
                f"{row.peak / 2**20:.0f} | {row.flops / 1e9:.0f} |",
                flush=True,
            )
        print(slopes(what, measured[what]), flush=True)
    if arguments.plot:
        draw(measured, arguments.plot)


@dataclasses.dataclass(frozen=True)
class Row:
    """One size: seconds and bytes."""

    value: int
    seconds: float
    cpu_seconds: float
    compiler: int
    peak: int
    flops: float

    @staticmethod
    def of(value: int, result: dict[str, Any]) -> "Row":
        """From what `step.measure` returns."""
        said = result["said"][PACKAGE]
        return Row(
            value,
            result["package step"]["seconds"],
            result["package step"]["cpu_seconds"],
            said["temporary_bytes"] + said["argument_bytes"],
            result["package memory"]["peak_bytes"],
            result["package flops"],
        )


def slopes(what: str, rows: list[Row]) -> str:
    """A table row with the slopes of log CPU time and log compiler memory over log size."""

    def fit(part: list[Row], field: str) -> float:
        x = np.log([row.value for row in part])
        return float(np.polyfit(x, np.log([getattr(row, field) for row in part]), 1)[0])

    fits = [f"{fit(rows, field):.2f}, {fit(rows[-2:], field):.2f}" for field in ("seconds", "cpu_seconds", "compiler")]
    return (
        f"| {what} | slope: all, last two | {' | '.join(fits)} | {fit(rows, 'peak'):.2f} | {fit(rows, 'flops'):.2f} |"
    )


def draw(measured: dict[str, list[Row]], path: Path) -> None:
    """Time above, memory below, a column for each size."""
    figure = Figure(figsize=(2.4 * len(measured), 4.8), layout="tight")
    axes = figure.subplots(2, len(measured), squeeze=False, sharey="row")
    for column, (what, rows) in enumerate(measured.items()):
        values = [row.value for row in rows]
        axes[0][column].plot(values, [row.cpu_seconds for row in rows], "o-")
        axes[1][column].plot(values, [row.compiler / 2**20 for row in rows], "o-")
        axes[1][column].set_xlabel(what.replace("_", " "))
        for axis in axes[:, column]:
            axis.set(xscale="log", yscale="log")
            axis.set_xticks(values, [f"{value:,}" for value in values], minor=False)
            axis.set_xticks([], minor=True)
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("")
            axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("CPU seconds per step")
    axes[1][0].set_ylabel("MiB, compiler's analysis")
    save(figure, path.with_suffix(""), dpi=100)


if __name__ == "__main__":
    main()
