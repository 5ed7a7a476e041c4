"""A role map as one HTML file that opens from disk without a network: map, sortable table and every head in detail.

In: the JSON dictionary of a role map, thumbnails as NumPy arrays, accuracies under ablation. Out: the page. Its form
is in templates/roles.html, its looks in roles.css, its behaviour in roles.js. Layers count from 1, heads from 0.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from dear_jax.files import storage
from dear_jax.report import pages
from dear_jax.report.entropy_histogram import entropy_histogram
from dear_jax.report.head_curves import head_curves
from dear_jax.report.heads import Head, concept_name, entropy_name, heads_of
from dear_jax.report.role_comparison import Comparison
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


def write(
    path: epath.PathLike,
    role_map: Mapping[str, Any],
    thumbnails: Mapping[str, Any],
    ablation: Mapping[str, Any] | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        role_map: the map's JSON dictionary.
        thumbnails: "images", uint8 [M, s, s, 3]; "top", int [layers, heads, n], indices into them, the image with the
            largest contribution first, -1 for none; optionally "names", M texts that say what an image shows, and
            "maps", int [layers, heads, m], indices of the first m of "top" under the map of the first description.
        ablation: of `find_roles.measure_ablation`; None where it was not measured.
        comparison: with another map; None for none.
    """
    storage.write(path, render(role_map, thumbnails, ablation, comparison))


def render(
    role_map: Mapping[str, Any],
    thumbnails: Mapping[str, Any],
    ablation: Mapping[str, Any] | None = None,
    comparison: Comparison | None = None,
) -> str:
    """The page as text."""
    heads = heads_of(role_map, ablation)
    names = thumbnails.get("names") or [f"image {index}" for index in range(len(thumbnails["images"]))]
    return pages.render(
        "roles.html",
        role_map=role_map,
        heads=heads,
        styles=role_styles(role_map["attributes"]).values(),
        counts=Counter(head.style.role for head in heads),
        concepts=[concept_name(role_map, index) for index in range(len(role_map["clusters"]))],
        thresholds=role_map["thresholds"],
        histogram=entropy_histogram(heads, role_map["thresholds"]),
        ablation=ablation,
        curves=list(head_curves(ablation["curves"])) if ablation and "curves" in ablation else [],
        by_cause=role_map.get("settings", {}).get("by") == "cause",
        entropy_name=entropy_name(role_map),
        agreement=_agreement(heads),
        comparison=comparison,
        thumbnails={**thumbnails, "names": names},
        settings=json.dumps({name: role_map[name] for name in SETTINGS if name in role_map}, indent=1),
    )


def _agreement(heads: Sequence[Head]) -> tuple[int, int]:
    """Specialists whose main concept is the attribute that they carry most of; and specialists."""
    specialists = [head for head in heads if head.style.specialist]
    return sum(head.main_cause is not None and head.main_cause.attribute == head.concept for head in specialists), len(
        specialists
    )
