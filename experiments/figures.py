"""Any number of runs as figures: methods and settings as curves, bars and points.

    python -m experiments.figures runs/reproduce --output=runs/figures

takes workdirs of finished runs, or folders that hold some. Few-shot runs become one figure with a panel per data set;
of every other protocol each data set, and the average over them, becomes a figure with a bar per setting or variant.
Base-to-new runs are also points of base against new accuracy, beside the published ones; and where the runs know it,
HM and few-shot accuracy stand over trainable parameters and over the time of a training step. An average is over the
same data sets for every row that is drawn. Each is written as PNG, SVG and PDF. The spread is the population standard
deviation over seeds. A method has the same looks in every figure.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from dear_jax.errors import UserError
from dear_jax.report import comparison_figures, tradeoff_figures
from dear_jax.report.blocks import Block, Table, slug
from dear_jax.report.method_styles import REFERENCE, Look, Looks, look
from dear_jax.report.tradeoff_figures import BASE, HM, NEW
from dear_jax.setup.methods import METHODS
from experiments import tables
from experiments.compare import published
from experiments.compare.beside import PUBLISHED, is_ours, is_published
from experiments.compare.comparison import SHOTS, is_average
from experiments.compare.settings import ZERO_SHOT, is_plain, method_of


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
        found = tables.collect(options.workdirs, even=True)
        looks = make_looks([name for table in found for block in table.blocks for name in block.rows])
        files = [file for table in found for file in draw(table, options.output, looks)]
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(str(file) for file in files))
    return 0


def draw(table: Table, folder: Path, looks: Looks) -> list[Path]:
    """The figures of a table."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [*_draw_accuracies(table, folder, looks), *_draw_tradeoffs(table, folder, looks)]
    except OSError as error:
        raise UserError(f"cannot write the figures to {folder}: {error.strerror}. Give another --output.") from error


def make_looks(names: Sequence[str]) -> dict[str, Look]:
    """The looks of all rows: a method and its published row have the same, whatever else there is.

    Further settings of a method have looks of their own, but for the color of their bars.
    """
    titles = [entry.TITLE for entry in METHODS.values()]
    titles += [name for methods in published.read_published().values() for name in methods]
    rows = dict.fromkeys(name for name in names if is_ours(name) or is_published(name))
    numbers = {title: number for number, title in enumerate(dict.fromkeys([*titles, *map(method_of, rows)]))}
    looks: dict[str, Look] = {}
    shown, spare = set(), len(numbers)
    for name in sorted(rows, key=lambda name: is_ours(name) and not is_plain(name)):  # the plain ones first
        title = method_of(name)
        of_method = REFERENCE if title in (ZERO_SHOT, PUBLISHED[ZERO_SHOT]) else look(numbers[title])
        if (title, is_ours(name)) not in shown:
            looks[name] = of_method
        else:
            spare += look(spare).color == of_method.color
            looks[name] = dataclasses.replace(look(spare), bar=of_method.bar)
            spare += 1
        shown.add((title, is_ours(name)))
    return looks


def _draw_accuracies(table: Table, folder: Path, looks: Looks) -> list[Path]:
    """Curves over the number of shots, or bars."""
    accuracies = [_without_differences(block) for block in table.blocks if block.accuracies]
    if _by_shots(table):
        ours = dataclasses.replace(table, blocks=tuple(map(_ours, accuracies)))
        return comparison_figures.draw_curves(ours, folder / slug(table.title), looks)
    files = []
    for block in accuracies:
        title = f"{table.title}: {block.title}"
        path = folder / slug(f"{table.title}-{block.title}")
        beside = [name for name in block.rows if is_published(name)]
        files += comparison_figures.draw_bars(block, title, path, looks, beside)
    return files


def _draw_tradeoffs(table: Table, folder: Path, looks: Looks) -> list[Path]:
    """Of the average, or of the only data set: base against new, and accuracy over what it costs."""
    blocks = [block for block in table.blocks if block.accuracies]
    if len(blocks) > 1 and not is_average(blocks[0]):
        return []
    block = _without_differences(blocks[0])
    title = f"{table.title}\n{block.title}"
    files = []
    if {BASE, NEW} <= set(block.columns):
        beside = [name for name in block.rows if is_published(name)]
        path = folder / slug(f"{table.title}-base_against_new")
        files += tradeoff_figures.draw_pairs(block, title, path, looks, beside)
    column = HM if HM in block.columns else block.columns[-1] if _by_shots(table) else None
    if column is not None:
        ours = _ours(block)
        for cost, words in (("parameters", "trainable parameters"), ("step_seconds", "time of a step")):
            path = folder / slug(f"{table.title}-{column}_over_{words}")
            files += tradeoff_figures.draw_costs(ours, column, cost, title, path, looks)
    return files


def _without_differences(block: Block) -> Block:
    rows = {name: row for name, row in block.rows.items() if is_ours(name) or is_published(name)}
    return dataclasses.replace(block, rows=rows)


def _by_shots(table: Table) -> bool:
    return all(SHOTS.fullmatch(column) for block in table.blocks if block.accuracies for column in block.columns)


def _ours(block: Block) -> Block:
    """What was measured here."""
    return dataclasses.replace(block, rows={name: row for name, row in block.rows.items() if is_ours(name)})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
