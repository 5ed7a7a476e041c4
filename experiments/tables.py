"""Any number of runs as tables beside the published ones: Markdown, CSV and LaTeX.

    python -m experiments.tables runs/reproduce                          # every run below a folder
    python -m experiments.tables runs/a runs/b --output=runs/tables

takes workdirs of finished runs, or folders that hold some, prints the Markdown and writes `tables.md`, `tables.csv` and
`tables.tex` to the output folder. What is unfinished, damaged or no run is named on stderr, and the rest goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dear_jax.errors import UserError
from dear_jax.files.storage import write_atomically
from dear_jax.report import blocks
from dear_jax.report.blocks import Table
from dear_jax.report.runs import find_runs
from experiments.compare.comparison import compare

WRITERS = {"tables.md": blocks.to_markdown, "tables.csv": blocks.to_csv, "tables.tex": blocks.to_latex}


def main(arguments: Sequence[str]) -> int:
    """Write the tables.

    Returns:
        The exit code: 0, or 2 where there is nothing to make a table of, or nowhere to write it.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdirs", nargs="+", type=Path, help="workdirs, or folders that hold some")
    parser.add_argument("--output", type=Path, default=Path("runs/tables"), help="folder of the files")
    options = parser.parse_args(arguments)
    try:
        tables = collect(options.workdirs)
        write(tables, options.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(blocks.to_markdown(tables))
    print(f"Written: {', '.join(str(options.output / name) for name in WRITERS)}")
    return 0


def collect(folders: Sequence[Path], even: bool = False) -> list[Table]:
    """The tables of all runs in some folders; what is no finished run is named on stderr.

    Args:
        folders: workdirs, or folders that hold some.
        even: whether averages are over the same data sets in every row, as figures need it.

    Raises:
        UserError: there is no finished run.
    """
    runs, problems = find_runs(folders)
    tables, misfits = compare(runs, even)
    for problem in [*problems, *misfits]:
        print(f"left out: {problem}", file=sys.stderr)
    if not tables:
        raise UserError(
            f"no finished run in {', '.join(map(str, folders))}. Give workdirs with results.json, or their parents."
        )
    return tables


def write(tables: Sequence[Table], folder: Path) -> None:
    """The three files; whoever reads one sees the old or the new one, never a part."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, render in WRITERS.items():
            write_atomically(folder / name, render(tables))
    except OSError as error:
        raise UserError(f"cannot write the tables to {folder}: {error.strerror}. Give another --output.") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
