"""Tables as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence


def to_markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is to the left, the others, which hold numbers, are to the right."""
    rules = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in [head, rules, *rows]
    )


def to_csv(rows: Iterable[Iterable[object]]) -> str:
    """Rows as the text of a CSV file, the header among them."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
