"""Our rows beside the published one of the same method, and by how much they differ.

In: the rows of a block. Out: the same rows in another order, and a row of differences after each that has a published
one and changes no setting.
"""

from collections.abc import Mapping

from dear_jax.report.blocks import Cell, Row
from experiments.compare.settings import OURS, ZERO_SHOT, is_plain, method_of

PUBLISHED = {ZERO_SHOT: "CLIP"}  # our name of a method -> the published one, where they are not the same
DIFFERENCE = "difference"  # in the name of a row, of ours and the published one


def arrange(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Method by method, in the order in which they come: the published row, ours, and the difference."""
    methods: dict[str, dict[str, Row]] = {}
    for name, row in rows.items():
        methods.setdefault(_title(name), {})[name] = row
    found: dict[str, Row] = {}
    for title, own in methods.items():
        for name, row in own.items():
            found[name] = row
            apart = difference(row, own.get(title, {})) if is_plain(name) else {}
            if apart:
                found[f"{title}, {DIFFERENCE}"] = apart
    return found


def difference(ours: Row, published: Row) -> Row:
    """Ours less the published, in points, in the columns that both have; what is said of either is said of it."""
    return {
        column: Cell(
            cell.mean - published[column].mean,
            notes=tuple(dict.fromkeys([*published[column].notes, *cell.notes])),
            source="; ".join(filter(None, [cell.source, published[column].source])),
            form="+z.2f",
            competes=False,
        )
        for column, cell in ours.items()
        if column in published
    }


def is_ours(name: str) -> bool:
    """Whether a row was measured here."""
    return OURS in name


def is_published(name: str) -> bool:
    """Whether a row is one of `published.csv`."""
    return not is_ours(name) and not name.endswith(f", {DIFFERENCE}")


def _title(name: str) -> str:
    method = method_of(name)
    return PUBLISHED.get(method, method)
