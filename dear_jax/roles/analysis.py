"""From a backbone and images to the role map of its heads: the steps of METHOD.md section 1 in their order.

images -> contributions of each head -> TEXTSPAN's descriptions -> concepts -> Concept Entropy -> roles.
"""

import dataclasses
import hashlib
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Float

from dear_jax.clip.weights import EMBEDDED, Backbone
from dear_jax.data.sources import ImageSplit
from dear_jax.errors import UserError
from dear_jax.roles import bank as banks
from dear_jax.roles import concepts, contributions, role_map, sentences, textspan
from dear_jax.roles.role_map import RoleMap

THRESHOLDS = ("quantile", "bits")


@dataclasses.dataclass(frozen=True)
class Options:
    """The keys of `config.roles`; configs/base.py has their meaning."""

    images: int
    seed: int
    batch_size: int
    bank: str
    anchors: str
    descriptions: int
    rank: int
    sentence_encoder: str
    min_cluster_size: int
    min_samples: int
    noise: str
    name_similarity: float
    weight: str
    thresholds: str
    low: float
    high: float

    def check(self) -> None:
        """Refuse values outside their range, all in one message.

        Raises:
            UserError: every offending key with its value and what is expected.
        """
        limit = 1.0 if self.thresholds == "quantile" else float("inf")
        rules = {
            "images": (self.images >= 0, "0 (all) or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "descriptions": (self.descriptions >= 1, "1 or more"),
            "rank": (self.rank >= 1, "1 or more"),
            "min_cluster_size": (self.min_cluster_size >= 2, "2 or more"),
            "min_samples": (self.min_samples >= 1, "1 or more"),
            "noise": (self.noise in concepts.NOISE_CHOICES, f"one of {', '.join(concepts.NOISE_CHOICES)}"),
            "name_similarity": (-1 <= self.name_similarity <= 1, "a cosine, in [-1, 1]"),
            "weight": (self.weight in concepts.WEIGHTS, f"one of {', '.join(concepts.WEIGHTS)}"),
            "thresholds": (self.thresholds in THRESHOLDS, f"one of {', '.join(THRESHOLDS)}"),
            "low": (0 <= self.low <= self.high, f"0 to config.roles.high, which is {self.high}"),
            "high": (self.high <= limit, f"{limit} at most"),
        }
        problems = [
            f"config.roles.{key} is {getattr(self, key)!r}, expected {expected}"
            for key, (valid, expected) in rules.items()
            if not valid
        ]
        if problems:
            raise UserError("; ".join(problems) + ".")


@dataclasses.dataclass(frozen=True)
class Analysis:
    """A role map, and what it was read from."""

    role_map: RoleMap
    contributions: Float[np.ndarray, "N n H d"]  # memory-mapped
    images: ImageSplit


def analyse(
    backbone: Backbone,
    split: ImageSplit,
    *,
    dataset: str,
    first_layer: int,
    attributes: tuple[str, ...],
    options: Options,
    folder: epath.Path,
    workers: int = 0,
) -> Analysis:
    """Decompose the images of `split` and find the role of each head of layers first_layer..L.

    Args:
        backbone: the CLIP whose heads are looked at.
        split: images of any kind; labels play no part.
        dataset: what to call them in the map.
        first_layer: J, counted from 1.
        attributes: the core attributes.
        options: every setting.
        folder: of the contributions, from which an interrupted run goes on.
        workers: processes that prepare images.
    """
    options.check()
    texts, anchors = load_texts(options, backbone, attributes)
    images = draw(split, options.images, options.seed)
    array = contributions.stream(
        backbone, images, first_layer, folder=folder, batch_size=options.batch_size, workers=workers
    )
    details = explain(backbone, array, texts, anchors, options)
    details["data"] = {"dataset": dataset, "images": len(images), "of": len(split)}
    details["settings"] |= {"bank_sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]}
    thresholds = details["thresholds"]
    names = [[details["clusters"][head["cluster"]]["name"] for head in row] for row in details["heads"]]
    roles = role_map.assign(details["entropy"], names, thresholds["low"], thresholds["high"], attributes)
    found = RoleMap(backbone.name, backbone.fingerprint, first_layer, tuple(attributes), roles, details)
    return Analysis(found, array, images)


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
    array: Float[np.ndarray, "N n H d"],
    texts: tuple[str, ...],
    anchors: banks.Anchors,
    options: Options,
) -> dict[str, Any]:
    """Descriptions, concepts and entropy of each head, as the role map's details."""
    count, layers, heads, _ = array.shape
    statistics = textspan.moments(array.reshape(count, layers * heads, -1))
    spans = textspan.textspan(
        statistics,
        sentences.encode_texts(backbone, texts),
        descriptions=options.descriptions,
        rank=options.rank,
    )
    used, places = np.unique(spans.picks, return_inverse=True)
    encoder = sentences.choose(options.sentence_encoder, backbone)
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
    bits = concepts.entropy(shares)
    low, high = options.low, options.high
    if options.thresholds == "quantile":
        low, high = (float(np.quantile(bits, quantile)) for quantile in (low, high))
    table = [
        {
            "cluster": int(shares[head].argmax()),
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
    return {
        "entropy": [[_round(value) for value in row] for row in bits.reshape(layers, heads)],
        "thresholds": {"low": _round(low), "high": _round(high)},
        "clusters": _describe_clusters(clusters, [texts[row] for row in used]),
        "noise": clusters.noise,
        "heads": [table[start : start + heads] for start in range(0, layers * heads, heads)],
        "sentence_encoder": encoder.name,
        "settings": settings,
    }


def _describe_clusters(clusters: concepts.Clusters, texts: list[str]) -> list[dict[str, Any]]:
    members = [[text for text, label in zip(texts, clusters.labels, strict=True) if label == place]
               for place in range(len(clusters.names))]  # fmt: skip
    return [
        {"name": name, "similarity": _round(similarity), "size": len(texts), "examples": texts[:5]}
        for name, similarity, texts in zip(clusters.names, clusters.similarity, members, strict=True)
    ]


def _round(value: float) -> float:
    return round(float(value), 6)
