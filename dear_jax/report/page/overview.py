"""The upper half of the page: layers x heads map, legend, entropy histogram, accuracy without the heads of a role."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dear_jax.report.entropy_bins import entropy_bins
from dear_jax.report.page.heads import Head
from dear_jax.report.role_styles import RoleStyle

Styles = Mapping[str, RoleStyle]

WIDTH = 340  # of the histogram, in its own units


def role_class(role: str, styles: Styles) -> str:
    """The CSS classes that give an element a role's color and pattern."""
    return f"r{list(styles).index(role)} {styles[role].pattern}"


def badge(role: str, styles: Styles) -> str:
    """A role's code on its color."""
    return f'<span class="badge {role_class(role, styles)}">{escape(styles[role].code)}</span>'


def signed(number: float) -> str:
    """A change, with its sign."""
    return f"{number:+z.2f}".replace("-", "\N{MINUS SIGN}")


def role_map_table(heads: Sequence[Head], styles: Styles) -> str:
    """The map: a row per layer, a cell per head that leads to its details."""
    columns = max(head.head for head in heads) + 1
    header = "".join(f'<th scope="col">{column}</th>' for column in range(columns))
    lines = []
    for start in range(0, len(heads), columns):
        cells = "".join(_map_cell(head, styles) for head in heads[start : start + columns])
        lines.append(f'<tr><th scope="row">{heads[start].layer}</th>{cells}</tr>')
    return (
        f'<table class="map" style="--heads: {columns}"><caption>layers down, heads across</caption>'
        f"<thead><tr><th></th>{header}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    )


def _map_cell(head: Head, styles: Styles) -> str:
    label = escape(f"Layer {head.layer}, head {head.head}: {styles[head.role].name}, {head.entropy:.2f} bits")
    return (
        f'<td><a class="{role_class(head.role, styles)}" href="#{head.anchor}" title="{label}" aria-label="{label}">'
        f"<b>{escape(styles[head.role].code)}</b>{head.entropy:.2f}</a></td>"
    )


def legend(heads: Sequence[Head], styles: Styles) -> str:
    """A button per role, which shows only its heads."""
    buttons = []
    for role, style in styles.items():
        count = sum(head.role == role for head in heads)
        note = escape(f"{count} · {style.meaning}" if style.meaning else str(count))
        buttons.append(
            f'<button type="button" aria-pressed="false" data-role="{escape(role)}">{badge(role, styles)}'
            f"<span>{escape(style.name)} <small>{note}</small></span></button>"
        )
    return "".join(buttons)


def histogram(heads: Sequence[Head], thresholds: Mapping[str, float], styles: Styles) -> str:
    """Inline SVG: every head is a square with its role's code, stacked where its Concept Entropy is."""
    ordered = sorted(heads, key=lambda head: (list(styles).index(head.role), head.entropy))
    edges, places = entropy_bins([head.entropy for head in ordered], thresholds["low"], thresholds["high"])
    side = WIDTH / (len(edges) - 1)
    floor = 26 + side * max(places.count(place) for place in places)
    squares = "".join(
        _square(head, side * place, floor - side * (places[:i].count(place) + 1), side, styles)
        for i, (head, place) in enumerate(zip(ordered, places, strict=True))
    )
    scale = side / (edges[1] - edges[0])
    lines = "".join(
        f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="14" y2="{floor:.1f}"></line>'
        f'<text x="{min(max(x, 45 * (name == "low")), WIDTH - 50 * (name == "high")):.1f}" y="10" '
        f'text-anchor="{"end" if name == "low" else "start"}">{name} {thresholds[name]:.2f}</text>'
        for name in ("low", "high")
        for x in [scale * (thresholds[name] - edges[0])]
    )
    ticks = "".join(
        f'<text x="{scale * (tick - edges[0]):.1f}" y="{floor + 13:.1f}" text-anchor="middle">{tick:g}</text>'
        for tick in _ticks(edges[-1])
    )
    label = (
        f"Histogram of the Concept Entropy of {len(heads)} heads; thresholds at {thresholds['low']:.2f} and "
        f"{thresholds['high']:.2f} bits"
    )
    return (
        f'<svg viewBox="-6 -2 {WIDTH + 12} {floor + 34:.0f}" role="img" aria-label="{label}">{squares}{lines}'
        f'<line x1="0" x2="{WIDTH}" y1="{floor:.1f}" y2="{floor:.1f}"></line>{ticks}'
        f'<text x="{WIDTH / 2}" y="{floor + 28:.1f}" text-anchor="middle">bits</text></svg>'
    )


def _square(head: Head, x: float, y: float, side: float, styles: Styles) -> str:
    style = styles[head.role]
    return (
        f'<rect x="{x + 0.5:.1f}" y="{y + 0.5:.1f}" width="{side - 1:.2f}" height="{side - 1:.2f}" rx="1.5" '
        f'fill="{style.color}" stroke="#000" stroke-width="0.4">'
        f"<title>{head.name}: {head.entropy:.2f} bits</title></rect>"
        f'<text class="code" x="{x + side / 2:.1f}" y="{y + side / 2 + 2.8:.1f}" style="fill: {style.text_color}">'
        f"{escape(style.code)}</text>"
    )


def _ticks(end: float) -> list[float]:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 100) if end / step <= 8)
    return [round(step * i, 6) for i in range(int(end / step) + 1)]


def ablation_section(ablation: Mapping[str, Any] | None, heads: Sequence[Head], styles: Styles) -> str:
    """Accuracy without all heads of a role, or nothing where it was not measured."""
    if ablation is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{badge(role, styles)} {escape(style.name)}</th>'
        f'<td class="number">{sum(head.role == role for head in heads)}</td>'
        f'<td class="number">{ablation["roles"][role]:.2f}</td>'
        f'<td class="number">{signed(ablation["roles"][role] - ablation["accuracy"])}</td></tr>'
        for role, style in styles.items()
        if role in ablation["roles"]
    )
    return (
        '<section aria-labelledby="ablation-title"><h2 id="ablation-title">Without the heads of a role</h2>'
        '<p class="note">Zero-shot accuracy in percent when every head of the role gives only its mean contribution. '
        f"With all heads: {ablation['accuracy']:.2f}.</p>"
        '<table class="ablation"><thead><tr><th scope="col">Role</th><th scope="col" class="number">Heads</th>'
        '<th scope="col" class="number">Accuracy</th><th scope="col" class="number">Change</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></section>"
    )
