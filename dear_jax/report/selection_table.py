"""What a selection has found (`selection.json`) as Markdown."""

from collections.abc import Mapping
from typing import Any

from dear_jax.errors import count
from dear_jax.report import text_tables
from dear_jax.report.tables import TITLES


def to_markdown(selection: Mapping[str, Any]) -> str:
    """A row per candidate, the best mean first: mean ± population standard deviation over folds and seeds, percent."""
    columns, chosen = selection["columns"], selection["chosen"]
    last = columns[-1]
    rows = [["zero-shot CLIP", *(f"{selection['zero_shot'][column]:.2f}" for column in columns), ""]]
    for candidate in sorted(selection["candidates"], key=lambda one: -one["mean"][last]):
        mark = "**chosen**" if candidate["name"] == chosen["name"] else "tied" if candidate["tied"] else ""
        cells = [f"{candidate['mean'][column]:.2f} ± {candidate['std'][column]:.2f}" for column in columns]
        rows.append([candidate["name"], *cells, mark])
    settings = ", ".join(f"{key} = {value}" for key, value in chosen["settings"].items())
    parts = [
        f"{selection['title']}, {selection['protocol']}, {selection['dataset']}, {selection['backbone']}, "
        f"{count(selection['shots'], 'shot')}: settings chosen without test images; top-1 accuracy in percent.",
        text_tables.to_markdown(["", *(TITLES.get(column, column) for column in columns), ""], rows),
        selection["measured_on"],
        "Tied: within one standard error of the best. Of these the one that changes fewest settings is chosen.",
        f"Chosen: {chosen['name']}" + (f" ({settings})." if settings else ", which changes nothing."),
    ]
    return "\n\n".join(parts) + "\n"
