"""HTML pages from `templates/`: every text is escaped, and a page opens from disk without a network."""

import base64
import functools
import hashlib
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from dear_jax.errors import count
from dear_jax.report import sprites


def render(template: str, **values: Any) -> str:
    """A template with its values; a value that it names and does not get is an error."""
    return _environment().get_template(template).render(values)


def signed(number: float) -> str:
    """A change, with its sign."""
    return f"{number:+z.2f}".replace("-", "\N{MINUS SIGN}")


def _source(name: str) -> Markup:
    """A style sheet or a script of ours as it is, to stand in a page."""
    return Markup(PackageLoader("dear_jax.report").get_source(_environment(), name)[0])


def _strong(cell: str) -> Markup:
    """A cell of a Markdown table, whose only markup are two asterisks around a number."""
    before, mark, rest = cell.partition("**")
    number, end, after = rest.partition("**")
    return Markup("{}<strong>{}</strong>{}").format(before, number, after) if mark and end else escape(cell)


def _sha256(script: str) -> str:
    """By this a page's Content-Security-Policy knows the one script that a browser may run."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("dear_jax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"sheets": sprites.sheets, "place": sprites.place}
    environment.filters |= {"count": count, "signed": signed, "sha256": _sha256, "source": _source, "strong": _strong}
    return environment
