"""The lower half of the page: a card per head with its descriptions and images, and the list of concepts."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from dear_jax.report.page import sprites
from dear_jax.report.page.heads import Description, Head, concept_name
from dear_jax.report.page.overview import badge, signed
from dear_jax.report.role_styles import RoleStyle


def card(head: Head, styles: Mapping[str, RoleStyle], thumbnails: Mapping[str, Any]) -> str:
    """All about one head; closed until somebody opens it."""
    shown = [int(index) for index in thumbnails["top"][head.row][head.head] if index >= 0]
    pictures = "".join(_thumbnail(index, thumbnails.get("names")) for index in shown)
    largest = max((description.variance for description in head.descriptions), default=0.0)
    return (
        f'<details class="head" id="{head.anchor}"><summary>{badge(head.role, styles)} <strong>{head.name}</strong> '
        f'{escape(styles[head.role].name)}, {head.entropy:.2f} bits <span class="text">{escape(head.first)}</span>'
        f'</summary><div class="body">{_facts(head)}'
        "<div><h3>Descriptions, with the variance that each explains</h3>"
        f'<ol class="descriptions">{"".join(_description(d, largest) for d in head.descriptions)}</ol></div>'
        f'<div><h3>Images to which it contributes most</h3><div class="thumbnails">{pictures or "none"}</div>'
        '<p><a href="#heads">Back to the table</a></p></div></div></details>'
    )


def clusters(role_map: Mapping[str, Any]) -> str:
    """A list item per cluster of descriptions."""
    return "".join(
        f"<li><strong>{escape(concept_name(role_map, index))}</strong> ({cluster['size']} descriptions, similarity "
        f"{cluster['similarity']:.2f}): <span>{escape('; '.join(cluster['examples']))}</span></li>"
        for index, cluster in enumerate(role_map["clusters"])
    )


def _facts(head: Head) -> str:
    facts = {
        "Concept Entropy": f"{head.entropy:.2f} bits",
        "Main concept": f"{head.concept}, share {100 * head.share:.0f} %",
        "Variance explained": f"{100 * head.explained:.0f} %",
    }
    if head.accuracy is not None and head.change is not None:
        facts["Accuracy without it"] = f"{head.accuracy:.2f} % ({signed(head.change)})"
    items = "".join(f"<div><dt>{key}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def _description(description: Description, largest: float) -> str:
    width = 100 * description.variance / largest if largest > 0 else 0
    return (
        f'<li><span class="share">{100 * description.variance:.1f} %</span><span>{escape(description.text)} '
        f'<small>{escape(description.concept)}</small><span class="bar" style="width: {width:.1f}%"></span></span></li>'
    )


def _thumbnail(index: int, names: Sequence[str] | None) -> str:
    sheet, x, y = sprites.place(index)
    name = escape(f"image {index}" if names is None else str(names[index]))
    return (
        f'<span class="s{sheet}" role="img" aria-label="{name}" title="{name}" '
        f'style="background-position: {x:.4f}% {y:.4f}%"></span>'
    )
