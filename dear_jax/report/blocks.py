"""Tables that compare methods, as Markdown, CSV and LaTeX.

In: a `Table` of blocks, one for each data set or for an average; a block has a row per method and a column per
accuracy. Out: text. Accuracies are in percent, with the population standard deviation over seeds where there is one;
what a reader must know about a cell is a note, marked [a], [b], ... in the cell and written out below its block. The
best accuracy of a column is bold. Other numbers, such as ranks, are cells of blocks of their own.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

from dear_jax.report import text_tables

MARKS = "abcdefghijklmnopqrstuvwxyz"


@dataclasses.dataclass(frozen=True)
class Cell:
    """One accuracy in percent, or another number with a form of its own.

    Attributes:
        mean: what is printed.
        std: population standard deviation over seeds; None where there is nothing to spread.
        seeds: how many were averaged; 0 where seeds play no part (zero-shot CLIP, published rows).
        notes: why it does not compare with the cells above it, and what else to know; sentences.
        source: the workdirs or the publication it comes from.
        form: how the mean is written, as Python's format() takes it.
        parameters: trainable ones of one seed, of each data set that was averaged; empty where they are not known.
        step_seconds: of a training step of one seed; None where it is not known.
        competes: whether it compares with the other cells of its column, and may be the best of them.
    """

    mean: float
    std: float | None = None
    seeds: int = 0
    notes: tuple[str, ...] = ()
    source: str = ""
    form: str = ".2f"
    parameters: tuple[int, ...] = ()
    step_seconds: float | None = None
    competes: bool = True


Row = dict[str, Cell]  # column -> cell; columns may be missing


@dataclasses.dataclass(frozen=True)
class Block:
    """One data set, an average over some, or what follows from them."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, Row]  # method -> row, in the order to print
    remark: str = ""  # below it
    accuracies: bool = True  # what the cells are


@dataclasses.dataclass(frozen=True)
class Table:
    """One protocol."""

    title: str
    caption: str
    blocks: tuple[Block, ...]


def to_markdown(tables: Sequence[Table]) -> str:
    """All tables for people, notes below each block."""
    parts: list[str] = []
    for table in tables:
        parts += [f"## {table.title}", table.caption]
        for block in table.blocks:
            marks, best = _marks(block), _best(block)
            rows = [
                [name, *(_markdown_cell(row.get(column), marks, (name, column) in best) for column in block.columns)]
                for name, row in block.rows.items()
            ]
            parts.append(text_tables.to_markdown([block.title, *block.columns], rows))
            if block.remark:
                parts.append(block.remark)
            if marks:
                parts.append("  \n".join(f"[{mark}] {note}" for note, mark in marks.items()))
    return "\n\n".join(parts) + "\n"


def to_csv(tables: Sequence[Table]) -> str:
    """All cells for programs, one a line."""
    head = ["table", "block", "row", "column", "mean", "std", "seeds", "notes", "source"]
    rows: list[list[object]] = [[*head, "least_parameters", "most_parameters", "step_seconds"]]
    for table in tables:
        for block, name, column, cell in _cells(table):
            std = "" if cell.std is None else f"{cell.std:.4f}"
            numbers = [f"{cell.mean:.4f}", std, cell.seeds or ""]
            cost: list[object] = [min(cell.parameters), max(cell.parameters)] if cell.parameters else ["", ""]
            cost.append("" if cell.step_seconds is None else f"{cell.step_seconds:.6g}")
            rows.append([table.title, block.title, name, column, *numbers, " ".join(cell.notes), cell.source, *cost])
    return text_tables.to_csv(rows)


def to_latex(tables: Sequence[Table]) -> str:
    """All tables for papers: a `table` per block, with the package booktabs."""
    lines = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        for block in table.blocks:
            lines += ["", *_latex_block(table, block)]
    return "\n".join(lines) + "\n"


def _latex_block(table: Table, block: Block) -> Iterator[str]:
    marks, best = _marks(block), _best(block)
    yield "\\begin{table}"
    yield "  \\centering"
    caption = block.remark or table.caption
    yield f"  \\caption{{{_latex(f'{table.title}: {block.title}. {caption}')}}}"
    yield f"  \\label{{tab:{slug(f'{table.title}-{block.title}')}}}"
    yield f"  \\begin{{tabular}}{{l{'r' * len(block.columns)}}}"
    yield "    \\toprule"
    yield _latex_row(["", *(_latex(column) for column in block.columns)])
    yield "    \\midrule"
    for name, row in block.rows.items():
        cells = [_latex_cell(row.get(column), marks, (name, column) in best) for column in block.columns]
        yield _latex_row([_latex(name), *cells])
    yield "    \\bottomrule"
    yield "  \\end{tabular}"
    for note, mark in marks.items():
        yield f"  \\par\\footnotesize $^{{{mark}}}$ {_latex(note)}"
    yield "\\end{table}"


def _marks(block: Block) -> dict[str, str]:
    """Note -> its letter, in the order of the cells; two letters after the twenty-sixth."""
    notes: dict[str, str] = {}
    for row in block.rows.values():
        for column in block.columns:
            for note in row[column].notes if column in row else ():
                number = len(notes)
                notes.setdefault(note, MARKS[number // 26 - 1] * (number >= 26) + MARKS[number % 26])
    return notes


def _best(block: Block) -> set[tuple[str, str]]:
    """Row and column of the cells that are as high as any in their column, as printed, where several compete."""
    found: set[tuple[str, str]] = set()
    for column in block.columns if block.accuracies else ():
        rows = {name: row[column] for name, row in block.rows.items() if column in row and row[column].competes}
        values = {name: round(cell.mean, 2) for name, cell in rows.items()}
        found |= {(name, column) for name in values if values[name] == max(values.values()) and len(values) > 1}
    return found


def slug(title: str) -> str:
    """A title as the name of a file or a label."""
    return re.sub(r"[^a-z0-9-]+", "_", title.lower()).strip("_")


def _cells(table: Table) -> Iterator[tuple[Block, str, str, Cell]]:
    for block in table.blocks:
        for name, row in block.rows.items():
            for column in block.columns:
                if column in row:
                    yield block, name, column, row[column]


def _markdown_cell(cell: Cell | None, marks: dict[str, str], best: bool) -> str:
    if cell is None:
        return ""
    spread = "" if cell.std is None else f" ± {cell.std:.2f}"
    letters = ",".join(marks[note] for note in cell.notes)
    number = f"{cell.mean:{cell.form}}"
    number = f"**{number}**" if best else number
    return f"{number}{spread}" + (f" [{letters}]" if letters else "")


def _latex_cell(cell: Cell | None, marks: dict[str, str], best: bool) -> str:
    if cell is None:
        return ""
    spread = "" if cell.std is None else f" $\\pm$ {cell.std:.2f}"
    letters = ",".join(marks[note] for note in cell.notes)
    number = f"{cell.mean:{cell.form}}"
    number = f"${number}$" if number[0] in "+-" else number  # else LaTeX sets a hyphen for a minus
    number = f"\\textbf{{{number}}}" if best else number
    return f"{number}{spread}" + (f"$^{{{letters}}}$" if letters else "")


def _latex_row(cells: Sequence[str]) -> str:
    return "    " + " & ".join(cells) + " \\\\"


def _latex(text: str) -> str:
    """Plain text, with what LaTeX would read as a command escaped."""
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "±": "$\\pm$"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)
