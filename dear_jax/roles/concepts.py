"""Picked descriptions to concepts, and the Concept Entropy of each head (methods/dear section 1, steps 3 and 4).

Comes in: sentence embeddings of the descriptions and of the phrases that name concepts. Goes out: clusters with names,
and per head how its descriptions spread over them, in bits.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from dear_jax.errors import UserError

NOISE = -1  # HDBSCAN's label of what belongs to no cluster
NOISE_CHOICES = ("nearest", "drop")
WEIGHTS = ("count", "variance")
SHUFFLES = 2000


@dataclasses.dataclass(frozen=True)
class Clusters:
    """Concepts: groups of descriptions that mean the same kind of thing."""

    labels: Int[np.ndarray, "descriptions"]  # of each description; NOISE: none, with noise="drop" alone
    names: tuple[str, ...]  # of each cluster; "" where no concept is near
    similarity: tuple[float, ...]  # cosine of each cluster's centroid and the nearest concept
    noise: int  # descriptions that HDBSCAN left out


def cluster(
    embeddings: Float[np.ndarray, "descriptions width"],
    concepts: Mapping[str, Float[np.ndarray, "width"]],
    *,
    min_cluster_size: int,
    min_samples: int,
    noise: str,
    name_similarity: float,
) -> Clusters:
    """Cluster unit embeddings by HDBSCAN and name the clusters; clusters of one name become one.

    Args:
        embeddings: unit vectors, one per different description.
        concepts: unit vector of each name that a cluster may get.
        min_cluster_size: of HDBSCAN: descriptions that make a cluster.
        min_samples: of HDBSCAN: the larger, the more descriptions are noise.
        noise: where descriptions in no cluster go: to the `nearest` centroid, or nowhere (`drop`).
        name_similarity: least cosine of a centroid and a concept for the cluster to have its name.

    Raises:
        UserError: embeddings that are not finite, or fewer than two clusters.
    """
    if not np.isfinite(embeddings).all():
        raise UserError(
            "The sentence encoder gave embeddings that are not finite numbers. Use another one "
            "(config.roles.sentence_encoder)."
        )
    found = _hdbscan(embeddings, min_cluster_size, min_samples)
    count = found.max(initial=NOISE) + 1
    if count < 2:
        raise UserError(
            f"HDBSCAN finds {'no cluster' if count == 0 else 'a single cluster'} in {len(embeddings)} descriptions, so "
            f"that no head can be told from another. Lower config.roles.min_cluster_size (now {min_cluster_size}) or "
            f"config.roles.min_samples (now {min_samples}), pick more config.roles.descriptions per head, or give a "
            "bank that covers more (config.roles.bank)."
        )
    centroids = unit(np.stack([embeddings[found == label].mean(0) for label in range(count)]))
    labels = found.copy()
    outside = found == NOISE
    if noise == "nearest" and outside.any():
        labels[outside] = np.argmax(embeddings[outside] @ centroids.T, axis=1)
    names, similarity = _name(centroids, concepts, name_similarity)
    return _merge(labels, names, similarity, int(outside.sum()))


def _hdbscan(embeddings: np.ndarray, min_cluster_size: int, min_samples: int) -> np.ndarray:
    """Labels in the order in which the clusters first appear."""
    from sklearn.cluster import HDBSCAN  # slow to import

    if len(embeddings) < max(min_cluster_size, min_samples, 2):
        return np.full(len(embeddings), NOISE)
    model = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, copy=True)
    found = model.fit(np.asarray(embeddings, np.float64)).labels_
    order = {label: place for place, label in enumerate(dict.fromkeys(found[found != NOISE]))}
    return np.array([order.get(label, NOISE) for label in found])


def _name(centroids: np.ndarray, concepts: Mapping[str, np.ndarray], least: float) -> tuple[list[str], list[float]]:
    cosines = centroids @ np.stack(list(concepts.values())).T
    nearest = cosines.argmax(1)
    similarity = [float(row[index]) for row, index in zip(cosines, nearest, strict=True)]
    titles = list(concepts)
    return [titles[i] if value >= least else "" for i, value in zip(nearest, similarity, strict=True)], similarity


def _merge(labels: np.ndarray, names: Sequence[str], similarity: Sequence[float], noise: int) -> Clusters:
    """Clusters of one name are one concept, of the largest similarity; unnamed ones stay apart."""
    places: dict[object, int] = {}
    target = [places.setdefault(name or index, len(places)) for index, name in enumerate(names)]
    merged = np.array([NOISE if label == NOISE else target[label] for label in labels])
    best = [max(s for s, t in zip(similarity, target, strict=True) if t == place) for place in range(len(places))]
    titles = tuple(key if isinstance(key, str) else "" for key in places)
    return Clusters(merged, titles, tuple(best), noise)


def distribution(
    labels: Int[np.ndarray, "heads picks"], variance: Float[np.ndarray, "heads picks"], clusters: int, weight: str
) -> Float[np.ndarray, "heads clusters"]:
    """Share of each head's descriptions in each cluster, by `count` or by the `variance` that each explains.

    A head none of whose descriptions is in a cluster spreads over all of them evenly.
    """
    amounts = np.ones_like(variance) if weight == "count" else variance
    inside = labels[:, :, None] == np.arange(clusters)[None, None]
    totals = (amounts[:, :, None] * inside).sum(1)
    sums = totals.sum(1, keepdims=True)
    return np.where(sums > 0, totals / np.where(sums > 0, sums, 1), 1 / clusters)


def dominant(
    shares: Float[np.ndarray, "heads clusters"], explained: Float[np.ndarray, "heads clusters"]
) -> Int[np.ndarray, "heads"]:
    """The cluster with the largest share; of several, the one that explains most, of equal ones the first."""
    best = np.isclose(shares, shares.max(1, keepdims=True), rtol=0, atol=1e-12)
    return np.asarray(np.where(best, explained, -1.0).argmax(1))


def entropy(shares: Float[np.ndarray, "heads clusters"]) -> Float[np.ndarray, "heads"]:
    """Concept Entropy `-sum_c P log2 P` in bits: 0 for one cluster, log2 C for C even ones."""
    logarithms = np.log2(np.where(shares > 0, shares, 1))
    return np.abs((shares * logarithms).sum(1))


def chance(
    labels: Int[np.ndarray, "heads picks"],
    variance: Float[np.ndarray, "heads picks"],
    clusters: int,
    weight: str,
    level: float,
    seed: int = 0,
) -> tuple[Float[np.ndarray, "heads"], Float[np.ndarray, "heads"]]:
    """How often a head has so low a Concept Entropy when its descriptions are any head's.

    The null distribution: all heads' picked descriptions are dealt out again at random, while each head keeps the votes
    of its picks. So a head with a few strong votes is compared with equally few, and a concept that most descriptions
    name counts for less. A head whose votes are all in one description has no entropy to be lower than chance.

    Args:
        labels: cluster of each pick.
        variance: that each pick explains.
        clusters: how many there are.
        weight: of the votes, as in `distribution`.
        level: of the limits.
        seed: of the shuffles.

    Returns:
        p-values in (0, 1], (1 + shuffles at most as high) / (1 + shuffles); and limits in bits, the null distributions'
        `level` quantiles.
    """
    generator = np.random.default_rng(seed)
    bits = entropy(distribution(labels, variance, clusters, weight))
    deals = (generator.permutation(labels.ravel()).reshape(labels.shape) for _ in range(SHUFFLES))
    null = np.stack([entropy(distribution(deal, variance, clusters, weight)) for deal in deals])
    below = (null <= bits[None] + 1e-9).sum(0)  # equal but for rounding is as low
    return (1 + below) / (1 + SHUFFLES), np.quantile(null, level, axis=0)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length; those that are zero stay so."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
