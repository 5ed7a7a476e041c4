"""From a backbone and images to the role map of its heads: the steps of methods/dear section 1 in their order.

images -> contributions of each head -> TEXTSPAN's descriptions -> concepts -> Concept Entropy -> roles.
"""

import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from dear_jax import __version__
from dear_jax.clip.checkpoints.weights import EMBEDDED, Backbone
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.skipping import Checked
from dear_jax.errors import UserError, count
from dear_jax.files import progress_bar
from dear_jax.parallel import agreement, processes
from dear_jax.roles import bank as banks
from dear_jax.roles import causes, concepts, contributions, role_map, sentences, textspan
from dear_jax.roles.options import Options
from dear_jax.roles.role_map import RoleMap

ORIGIN = ("source", "tfds", "splits", "splits_sha256")  # what a role map keeps of a data set's notes


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What an analysis works with, checked before any image is read."""

    texts: tuple[str, ...]  # the bank
    anchors: banks.Anchors
    encoder: sentences.SentenceEncoder
    images: ImageSplit


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A role map, and what it was read from."""

    role_map: RoleMap
    contributions: Float[np.ndarray, "images n H d"]  # memory-mapped; empty where another process has it
    images: ImageSplit


def analyse(
    backbone: Backbone,
    dataset: ImageDataset,
    *,
    first_layer: int,
    attributes: tuple[str, ...],
    options: Options,
    folder: epath.Path,
    encoder: sentences.SentenceEncoder | None = None,
    skip_bad: bool = False,
    workers: int = 0,
    shared: bool = False,
) -> Analysis:
    """Decompose training images and find the role of each head of layers first_layer..L.

    Args:
        backbone: the CLIP whose heads are looked at.
        dataset: images of any kind; labels play no part.
        first_layer: J, counted from 1.
        attributes: the core attributes.
        options: every setting.
        folder: of the contributions, from which an interrupted run goes on.
        encoder: of sentences, where it has been loaded; None: that of the options.
        skip_bad: whether images that cannot be read are left out, and listed in the map, or refused.
        workers: processes that prepare images.
        shared: whether all processes of the job call this, and share the images out; the first alone then has the
            contributions.
    """
    inputs = prepare(backbone, dataset.train, attributes, options, encoder)
    picked = sizes(backbone, options)["descriptions"]
    if picked < options.descriptions:
        print(f"A head of {backbone.name} spans {picked} directions: {picked} descriptions are picked for each.")
    images, skipped = _leave_out_bad(inputs.images) if skip_bad else (inputs.images, {})
    array = contributions.stream(
        backbone, images, first_layer, folder=folder, batch_size=options.batch_size, workers=workers, shared=shared
    )
    inputs = dataclasses.replace(inputs, images=images)
    make = functools.partial(_make, backbone, dataset, first_layer, attributes, options, inputs, array, skipped)
    if not shared:
        return Analysis(make(), array, images)
    values = None
    with processes.together():
        if processes.is_first():
            values = make().to_dict()
    return Analysis(role_map.read(agreement.from_first(values), "of this job"), array, images)


def _make(
    backbone: Backbone,
    dataset: ImageDataset,
    first_layer: int,
    attributes: tuple[str, ...],
    options: Options,
    inputs: Inputs,
    array: Float[np.ndarray, "images n H d"],
    skipped: dict[str, list[str]],
) -> RoleMap:
    """The role map of all contributions."""
    details = explain(backbone, array, inputs.texts, inputs.anchors, inputs.encoder, options)
    if options.causes or options.by == "cause":
        details |= exchange(backbone, array, inputs.images, inputs.anchors, options)
    origin = {key: dataset.notes[key] for key in ORIGIN if key in dataset.notes}
    details["data"] = {"dataset": dataset.name, "images": len(array), "of": len(dataset.train)} | origin | skipped
    details["settings"] |= {
        "bank_sha256": _digest("\n".join(inputs.texts)),
        "anchors_sha256": _digest(repr(inputs.anchors)),
    }
    details["version"] = __version__
    roles = assign(details, attributes)
    return RoleMap(backbone.name, backbone.fingerprint, first_layer, tuple(attributes), roles, details)


def assign(details: dict[str, Any], attributes: tuple[str, ...]) -> role_map.Roles:
    """Roles by what `explain` found, or by what `exchange` did."""
    if details["settings"]["by"] == "cause":
        found = details["causes"]
        names = [[found["attributes"][int(np.argmax(head))] for head in row] for row in found["carried"]]
    else:
        names = [[details["clusters"][head["cluster"]]["name"] for head in row] for row in details["heads"]]
    if "p_values" in details:
        level = details["settings"]["level"]
        return role_map.assign_by_chance(details["p_values"], names, level, attributes)
    thresholds = details["thresholds"]
    return role_map.assign(details["entropy"], names, thresholds["low"], thresholds["high"], attributes)


def prepare(
    backbone: Backbone,
    split: ImageSplit,
    attributes: tuple[str, ...],
    options: Options,
    encoder: sentences.SentenceEncoder | None = None,
) -> Inputs:
    """Bank, phrases, sentence encoder (loaded here, where none is given) and images of an analysis.

    Raises:
        UserError: what can be known to be wrong before hours of forward passes: a setting, the bank, descriptions
            longer than the text tower's context, fewer images than the rank needs, no such sentence encoder.
    """
    options.check()
    texts, anchors = load_texts(options, backbone, attributes)
    images = draw(split, options.images, options.seed)
    textspan.check_sizes(len(images), len(texts), **sizes(backbone, options))
    backbone.tokenizer(texts)
    return Inputs(texts, anchors, encoder or sentences.choose(options.sentence_encoder, backbone), images)


def sizes(backbone: Backbone, options: Options) -> dict[str, int]:
    """TEXTSPAN's `rank` and `descriptions` per head: the settings, at most what a head can span [D].

    A head writes through the head_width columns of its output projection, so its contributions span that many
    directions and no more. A larger rank would keep rounding noise, onto which the bank would then be projected: with
    it, roles differed from one machine to another.
    """
    config = backbone.config
    span = min(config.vision.head_width, config.embed_dim)
    return {"descriptions": min(options.descriptions, span), "rank": min(options.rank, span)}


def _leave_out_bad(images: ImageSplit) -> tuple[ImageSplit, dict[str, list[str]]]:
    checked = Checked(images)
    readable = checked.readable()
    if checked.bad:
        print(f"Left out {count(len(checked.bad), 'image')} that cannot be read; the role map lists them.", flush=True)
    return readable, {"skipped": sorted(checked.bad.values())}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def load_texts(
    options: Options, backbone: Backbone, attributes: tuple[str, ...]
) -> tuple[tuple[str, ...], banks.Anchors]:
    """The bank and the phrases that name clusters: the user's, or those in the backbone's own words."""
    embedded = backbone.name in EMBEDDED
    texts = banks.load(options.bank or (banks.EMBEDDED if embedded else banks.ENGLISH))
    anchors = banks.embedded_anchors() if embedded else banks.ENGLISH_ANCHORS
    if options.anchors:
        anchors = banks.load_anchors(options.anchors)
    return texts, banks.with_attributes(anchors, attributes)


def draw(split: ImageSplit, count: int, seed: int) -> ImageSplit:
    """`count` of the images without repetition, in their order; 0: all."""
    if not count or count >= len(split):
        return split
    return split.subset(np.sort(np.random.default_rng(seed).permutation(len(split))[:count]))


def explain(
    backbone: Backbone,
    array: Float[np.ndarray, "images n H d"],
    texts: tuple[str, ...],
    anchors: banks.Anchors,
    encoder: sentences.SentenceEncoder,
    options: Options,
) -> dict[str, Any]:
    """Descriptions, concepts and entropy of each head, as the role map's details."""
    images, layers, heads, _ = array.shape
    statistics = textspan.moments(array.reshape(images, layers * heads, -1))
    with progress_bar.waiting(f"Encoding {count(len(texts), 'description')} and picking those of each head"):
        spans = textspan.textspan(
            statistics,
            sentences.encode_texts(backbone, texts),
            **sizes(backbone, options),
        )
    used, places = np.unique(spans.picks, return_inverse=True)
    with progress_bar.waiting(f"Clustering {count(len(used), 'description')}"):
        vectors, names = sentences.embed(encoder, texts, anchors)
        clusters = concepts.cluster(
            vectors[used],
            names,
            min_cluster_size=options.min_cluster_size,
            min_samples=options.min_samples,
            noise=options.noise,
            name_similarity=options.name_similarity,
        )
    labels = clusters.labels[places.reshape(spans.picks.shape)]
    shares = concepts.distribution(labels, spans.variance, len(clusters.names), options.weight)
    dominant = concepts.dominant(shares, concepts.distribution(labels, spans.variance, len(clusters.names), "variance"))
    bits = concepts.entropy(shares)
    low, high = _thresholds(bits, options)
    by_chance: dict[str, Any] = {}
    if options.thresholds == "chance":
        p, limits = concepts.chance(
            labels, spans.variance, len(clusters.names), options.weight, options.level, options.seed
        )
        low = high = float(np.median(limits))  # every head has its own; this is to draw
        by_chance = {"p_values": [[_round(value) for value in row] for row in p.reshape(layers, heads)]}
    table = [
        {
            "cluster": int(dominant[head]),
            "share": _round(shares[head].max()),
            "explained": _round(spans.variance[head].sum()),
            "descriptions": [
                {"text": texts[row], "variance": _round(variance), "cluster": int(label)}
                for row, variance, label in zip(spans.picks[head], spans.variance[head], labels[head], strict=True)
            ],
        }
        for head in range(layers * heads)
    ]
    settings = dataclasses.asdict(options) | {"bank": options.bank or "the backbone's own"}
    settings |= {f"{name}_used": value for name, value in sizes(backbone, options).items()}
    return {
        "entropy": [[_round(value) for value in row] for row in bits.reshape(layers, heads)],
        "thresholds": {"low": _round(low), "high": _round(high)},
        **by_chance,
        "clusters": _describe_clusters(clusters, [texts[row] for row in used]),
        "noise": clusters.noise,
        "heads": [table[start : start + heads] for start in range(0, layers * heads, heads)],
        "sentence_encoder": encoder.name,
        "settings": settings,
    }


def exchange(
    backbone: Backbone,
    array: Float[np.ndarray, "images n H d"],
    images: ImageSplit,
    anchors: banks.Anchors,
    options: Options,
) -> dict[str, Any]:
    """What each head causes, as details of the role map; with the option `by=cause` the entropy and thresholds, too.

    Args:
        backbone: the CLIP.
        array: contributions of the heads.
        images: to which they are.
        anchors: phrases of each attribute, which stand for its values.
        options: every setting.

    Raises:
        UserError: fewer than two images, or no attribute with two phrases.
    """
    values = causes.values_of(backbone, anchors)
    if not values or len(images) < 2:
        raise UserError(
            "config.roles.causes and config.roles.by=cause exchange contributions between images that differ in an "
            f"attribute: they need two images (found {len(images)}) and an attribute with two phrases (found "
            f"{len(values)}; config.roles.anchors)."
        )
    rows = np.unique(np.linspace(0, len(images) - 1, causes.PAIRS).astype(int))
    layers, heads = array.shape[1:3]
    found = causes.interchange(
        causes.outputs(backbone, images.subset(rows), options.batch_size),
        array[rows].reshape(len(rows), layers * heads, -1),
        values,
        options.seed,
    )
    bits = concepts.entropy(found.shares())
    table = {
        name: [[[_round(value) for value in head] for head in row] for row in numbers.reshape(layers, heads, -1)]
        for name, numbers in (("moved", found.moved), ("carried", found.carried))
    }
    details: dict[str, Any] = {
        "causes": table
        | {
            "attributes": list(found.attributes),
            "entropy": [[_round(value) for value in row] for row in bits.reshape(layers, heads)],
            "pairs": found.pairs,
        }
    }
    if options.by == "cause":
        low, high = _thresholds(bits, options)
        details |= {"entropy": details["causes"]["entropy"], "thresholds": {"low": _round(low), "high": _round(high)}}
    return details


def _thresholds(bits: Float[np.ndarray, "heads"], options: Options) -> tuple[float, float]:
    """Low and high in bits."""
    if options.thresholds == "quantile":
        return float(np.quantile(bits, options.low)), float(np.quantile(bits, options.high))
    return options.low, options.high


def _describe_clusters(clusters: concepts.Clusters, texts: list[str]) -> list[dict[str, Any]]:
    members = [[text for text, label in zip(texts, clusters.labels, strict=True) if label == place]
               for place in range(len(clusters.names))]  # fmt: skip
    return [
        {"name": name, "similarity": _round(similarity), "size": len(texts), "examples": texts[:5]}
        for name, similarity, texts in zip(clusters.names, clusters.similarity, members, strict=True)
    ]


def _round(value: float) -> float:
    return round(float(value), 6)
