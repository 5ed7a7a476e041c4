"""A role map as one HTML file that opens from disk without a network: map, sortable table and every head in detail.

In: the JSON dictionary of a role map, thumbnails as NumPy arrays, accuracies under ablation. Out: the page. Its form
is in page/page.html.template, its looks in page.css, its behaviour in page.js. Layers count from 1, heads from 0.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any

from etils import epath

from dear_jax.files import storage
from dear_jax.report.page import cards, overview, sprites, table
from dear_jax.report.page.heads import heads_of
from dear_jax.report.role_styles import role_styles

SETTINGS = (
    "backbone",
    "fingerprint",
    "first_layer",
    "attributes",
    "thresholds",
    "sentence_encoder",
    "data",
    "settings",
)
ACCURACY_NOTE = (
    " Accuracy without it: zero-shot, in percent, when the head gives only its mean; in brackets the change."
)


def write(
    path: epath.PathLike,
    role_map: Mapping[str, Any],
    thumbnails: Mapping[str, Any],
    ablation: Mapping[str, Any] | None = None,
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        role_map: the map's JSON dictionary.
        thumbnails: "images", uint8 [M, s, s, 3]; "top", int [layers, heads, n], indices into them, the image with the
            largest contribution first, -1 for none; optionally "names", M texts that say what an image shows.
        ablation: percent with parts mean-ablated: "accuracy" with none, "heads" [layers][heads] with that head, "roles"
            {role: percent} with its heads; None where it was not measured.
    """
    storage.to_path(path).write_text(render(role_map, thumbnails, ablation))


def render(
    role_map: Mapping[str, Any], thumbnails: Mapping[str, Any], ablation: Mapping[str, Any] | None = None
) -> str:
    """The page as text."""
    styles = role_styles(role_map["attributes"])
    heads = heads_of(role_map, ablation)
    script = _file("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    colors = [f".r{i} {{ background-color: {s.color}; color: {s.text_color}; }}" for i, s in enumerate(styles.values())]
    sheets = [
        f".s{i} {{ background-image: url({uri}); }}" for i, uri in enumerate(sprites.sheets(thumbnails["images"]))
    ]
    return Template(_file("page.html.template")).substitute(
        backbone=escape(str(role_map["backbone"])),
        script=script,
        script_hash=f"sha256-{digest}",  # the one script that a browser may run here, whatever the texts say
        style="\n".join([_file("page.css"), *colors, *sheets]),
        summary=escape(_summary(role_map, len(heads))),
        map=overview.role_map_table(heads, styles),
        legend=overview.legend(heads, styles),
        histogram=overview.histogram(heads, role_map["thresholds"], styles),
        accuracy_note="" if ablation is None else ACCURACY_NOTE,
        ablation=overview.ablation_section(ablation, heads, styles),
        role_options="".join(f'<option value="{escape(s.role)}">{escape(s.name)}</option>' for s in styles.values()),
        layer_options="".join(f"<option>{layer}</option>" for layer in sorted({head.layer for head in heads})),
        head_count=len(heads),
        columns=table.header(heads),
        rows=table.rows(heads, styles),
        details="\n".join(cards.card(head, styles, thumbnails) for head in heads),
        clusters=cards.clusters(role_map),
        settings=escape(json.dumps({name: role_map[name] for name in SETTINGS if name in role_map}, indent=1)),
    )


def _file(name: str) -> str:
    return (resources.files("dear_jax.report") / "page" / name).read_text(encoding="utf-8")


def _summary(role_map: Mapping[str, Any], heads: int) -> str:
    first, last = role_map["first_layer"], role_map["first_layer"] + len(role_map["roles"]) - 1
    data = role_map["data"]
    return (
        f"{heads} heads of layers {first} to {last}, analysed on {data['images']:,} images of {data['dataset']}; "
        f"descriptions compared by {role_map['sentence_encoder']}."
    )
