"""Any number of runs as figures: curves over the number of shots, and bars for the settings of an ablation.

    python -m experiments.figures runs/reproduce --output=runs/figures

takes workdirs of finished runs, or folders that hold some. Few-shot runs become one figure with a panel per data set;
of every other protocol each data set, and the average over them, becomes a figure with a bar per setting or variant.
Each is written as PNG and SVG. The spread is the population standard deviation over seeds.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from dear_jax.errors import UserError
from dear_jax.report import comparison_figures
from dear_jax.report.blocks import Table
from experiments import tables
from experiments.compare.comparison import SHOTS
from experiments.compare.settings import OURS


def main(arguments: Sequence[str]) -> int:
    """Draw the figures.

    Returns:
        The exit code: 0, or 2 where there is nothing to draw, or nowhere to write it.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+", type=Path, help="workdirs, or folders that hold some")
    parser.add_argument("--output", type=Path, default=Path("runs/figures"), help="folder of the files")
    options = parser.parse_args(arguments)
    try:
        files = [file for table in tables.collect(options.workdirs) for file in draw(_ours(table), options.output)]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(str(file) for file in files))
    return 0


def draw(table: Table, folder: Path) -> list[Path]:
    """The figures of a table."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if all(SHOTS.fullmatch(column) for block in table.blocks for column in block.columns):
            return comparison_figures.draw_curves(table, folder / _file_name(table.title))
        return [
            file
            for block in table.blocks
            for file in comparison_figures.draw_bars(
                block, f"{table.title}: {block.title}", folder / _file_name(f"{table.title}-{block.title}")
            )
        ]
    except OSError as error:
        raise UserError(f"cannot write the figures to {folder}: {error.strerror}. Give another --output.") from error


def _ours(table: Table) -> Table:
    """Without the published rows."""
    blocks = [
        dataclasses.replace(block, rows={name: row for name, row in block.rows.items() if OURS in name})
        for block in table.blocks
    ]
    return dataclasses.replace(table, blocks=tuple(blocks))


def _file_name(title: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "_", title.lower()).strip("_")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
