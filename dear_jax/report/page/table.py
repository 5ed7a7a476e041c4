"""The table of heads that the page's script sorts and filters: every cell carries the value to sort by."""

from collections.abc import Mapping, Sequence
from html import escape

from dear_jax.report.page.heads import Head
from dear_jax.report.page.overview import badge, signed
from dear_jax.report.role_styles import RoleStyle

TITLES = {
    "head": "Head",
    "role": "Role",
    "entropy": "Entropy, bits",
    "accuracy": "Accuracy without it",
    "concept": "Main concept",
    "share": "Its share",
    "explained": "Explained",
    "first": "First description",
}
NUMBERS = ("entropy", "accuracy", "share", "explained")


def header(heads: Sequence[Head]) -> str:
    """A cell per column, with the button that sorts by it."""
    return "".join(_column(key) for key in TITLES if _is_shown(key, heads))


def rows(heads: Sequence[Head], styles: Mapping[str, RoleStyle]) -> str:
    """A row per head."""
    return "\n".join(_row(head, heads, styles) for head in heads)


def accuracy(head: Head) -> str:
    """Accuracy without a head and what that changes, empty where it was not measured."""
    return "" if head.accuracy is None or head.change is None else f"{head.accuracy:.2f} ({signed(head.change)})"


def _is_shown(key: str, heads: Sequence[Head]) -> bool:
    return key != "accuracy" or any(head.accuracy is not None for head in heads)


def _column(key: str) -> str:
    sort = "ascending" if key == "head" else "none"
    return (
        f'<th scope="col" data-key="{key}" aria-sort="{sort}"{_css_class(key)}>'
        f'<button type="button">{TITLES[key]}</button></th>'
    )


def _row(head: Head, heads: Sequence[Head], styles: Mapping[str, RoleStyle]) -> str:
    cells: dict[str, tuple[float | str, str]] = {  # key: (value to sort by, HTML)
        "role": (
            list(styles).index(head.role),
            f"{badge(head.role, styles)} <span>{escape(styles[head.role].name)}</span>",
        ),
        "entropy": (head.entropy, f"{head.entropy:.2f}"),
        "accuracy": ("" if head.accuracy is None else head.accuracy, accuracy(head)),
        "concept": (escape(head.concept), escape(head.concept)),
        "share": (head.share, f"{100 * head.share:.0f} %"),
        "explained": (head.explained, f"{100 * head.explained:.0f} %"),
        "first": (escape(head.first), escape(head.first)),
    }
    html = "".join(
        f'<td data-value="{value}"{_css_class(key)}>{text}</td>'
        for key, (value, text) in cells.items()
        if _is_shown(key, heads)
    )
    return (
        f'<tr data-head="{head.anchor}" data-role="{escape(head.role)}" data-layer="{head.layer}"><th scope="row" '
        f'data-value="{1000 * head.layer + head.head}"><a href="#{head.anchor}">{head.name}</a></th>{html}</tr>'
    )


def _css_class(key: str) -> str:
    return ' class="number"' if key in NUMBERS else f' class="{key}"'
