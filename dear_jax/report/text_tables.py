"""Tables as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # beginnings of what a spreadsheet calculates


def to_markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is to the left, the others, which hold numbers, are to the right."""
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, rules, *rows]
    )


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """Rows as the text of a CSV file, the header among them.

    A text that a spreadsheet would run as a formula gets an apostrophe before it, by which it is shown as it is.
    """
    return "".join(map(_csv_line, rows))


def _csv_line(row: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([_inert(cell) for cell in row])  # both are quoted in cells
    return text.getvalue().removesuffix("\r\n") + "\n"


def _inert(cell: object) -> object:
    if not isinstance(cell, str) or not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)  # a number, which may be negative
    except ValueError:
        return f"'{cell}"
    return cell
