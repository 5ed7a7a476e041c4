"""Image retrieval: a gallery ranked by the cosine to each query, and how good the rankings are.

Plain NumPy on features and labels; nothing here knows what they stand for. A gallery image is relevant to a query that
has the same label.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

CHUNK = 2**24  # similarities held at a time


class Scores(NamedTuple):
    """Means over the queries that have a relevant gallery image; NaN where there is none."""

    precision: float  # share of relevant images among the first k, in [0, 1]
    mean_average_precision: float  # in [0, 1]


def ranking(
    queries: Float[np.ndarray, "queries d"], gallery: Float[np.ndarray, "gallery d"], top: int | None = None
) -> Int[np.ndarray, "queries top"]:
    """Gallery places in the order of descending cosine, equal ones in the gallery's order; the first `top` of them.

    Features have unit length.
    """
    order = np.empty((len(queries), min(top or len(gallery), len(gallery))), np.int32)
    for rows in _chunks(len(queries), len(gallery)):
        order[rows] = np.argsort(-(queries[rows] @ gallery.T), axis=1, kind="stable")[:, : order.shape[1]]
    return order


def score(
    queries: Float[np.ndarray, "queries d"],
    gallery: Float[np.ndarray, "gallery d"],
    labels: Mapping[str, tuple[Shaped[np.ndarray, "queries"], Shaped[np.ndarray, "gallery"]]],
    k: int,
) -> dict[str, Scores]:
    """Precision@k and mAP of the ranking by cosine, for every kind of label (of the queries, of the gallery).

    Each query's ranking is made once, whatever the number of kinds.
    """
    precisions: dict[str, list[np.ndarray]] = {kind: [] for kind in labels}
    averages: dict[str, list[np.ndarray]] = {kind: [] for kind in labels}
    for rows in _chunks(len(queries), len(gallery)):
        order = ranking(queries[rows], gallery)
        for kind, (query_labels, gallery_labels) in labels.items():
            relevant = gallery_labels[order] == query_labels[rows, None]
            precisions[kind].append(precision_at(relevant, k))
            averages[kind].append(average_precision(relevant))
    return {
        kind: Scores(_mean(np.concatenate(precisions[kind])), _mean(np.concatenate(averages[kind]))) for kind in labels
    }


def precision_at(relevant: Bool[np.ndarray, "queries gallery"], k: int) -> Float[np.ndarray, "queries"]:
    """Share of the first min(k, G) ranks that are relevant; NaN for a query without any relevant image."""
    return np.where(relevant.any(axis=1), relevant[:, :k].mean(axis=1), np.nan)


def average_precision(relevant: Bool[np.ndarray, "queries gallery"]) -> Float[np.ndarray, "queries"]:
    """Mean, over a query's relevant images, of the precision at the rank of each; NaN where there are none.

    `relevant[q, r]` says whether the image at rank r (from 0) is relevant.
    """
    found = np.cumsum(relevant, axis=1)
    precision = found / np.arange(1, relevant.shape[1] + 1)
    counts = found[:, -1]
    return np.where(counts > 0, (precision * relevant).sum(axis=1) / np.maximum(counts, 1), np.nan)


def chance(query_labels: Shaped[np.ndarray, "queries"], gallery_labels: Shaped[np.ndarray, "gallery"]) -> Scores:
    """What a random ranking gets on average.

    Its precision at any rank is the share of relevant images. With R relevant images of G its expected average
    precision is (H_G + (R - 1) (G - H_G) / (G - 1)) / G, H_G the harmonic number (Bestgen, 2015).
    """
    values, counts = np.unique(gallery_labels, return_counts=True)
    of_label = dict(zip(values.tolist(), counts.tolist(), strict=True))
    relevant = np.array([of_label.get(label, 0) for label in query_labels.tolist()], np.float64)
    relevant = np.where(relevant > 0, relevant, np.nan)
    size = len(gallery_labels)
    harmonic = (1 / np.arange(1, size + 1)).sum()
    average = (harmonic + (relevant - 1) * (size - harmonic) / max(size - 1, 1)) / size
    return Scores(_mean(relevant / size), _mean(average))


def matched(query_labels: Shaped[np.ndarray, "queries"], gallery_labels: Shaped[np.ndarray, "gallery"]) -> int:
    """Queries that have a relevant gallery image."""
    return int(np.isin(query_labels, gallery_labels).sum())


def _chunks(queries: int, gallery: int) -> Iterator[slice]:
    size = max(1, CHUNK // max(gallery, 1))
    return (slice(start, start + size) for start in range(0, queries, size))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
