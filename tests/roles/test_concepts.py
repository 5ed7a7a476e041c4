"""Clusters with names, and the Concept Entropy in closed form."""

import numpy as np
import pytest

from dear_jax.errors import UserError
from dear_jax.roles import concepts

SETTINGS = dict(min_cluster_size=4, min_samples=2, noise="nearest", name_similarity=0.5)


def blobs(centers, count=10, spread=0.02, seed=0):
    """Unit vectors around centers, one group after the other."""
    generator = np.random.default_rng(seed)
    points = np.repeat(np.asarray(centers, float), count, axis=0)
    points = points + generator.normal(0, spread, points.shape)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


@pytest.mark.parametrize("clusters", [1, 2, 5, 16])
def test_entropy_of_even_shares_is_log2_of_their_number(clusters):
    shares = np.zeros((1, 20))
    shares[0, :clusters] = 1 / clusters
    assert concepts.entropy(shares)[0] == pytest.approx(np.log2(clusters), abs=1e-12)


def test_entropy_of_one_half_and_two_quarters():
    assert concepts.entropy(np.array([[0.5, 0.25, 0.25]]))[0] == pytest.approx(1.5)


def test_shares_by_count_and_by_variance():
    labels = np.array([[0, 0, 0, 1], [1, 1, 1, concepts.NOISE]])
    variance = np.array([[0.1, 0.1, 0.1, 0.3], [0.0, 0.0, 0.0, 0.9]])
    np.testing.assert_allclose(concepts.distribution(labels, variance, 2, "count"), [[0.75, 0.25], [0, 1]])
    np.testing.assert_allclose(concepts.distribution(labels, variance, 2, "variance"), [[0.5, 0.5], [0.5, 0.5]])


def test_ties_of_the_dominant_cluster_go_to_what_explains_more():
    shares = np.array([[0.4, 0.4, 0.2], [0.2, 0.5, 0.3], [1 / 3, 1 / 3, 1 / 3]])
    explained = np.array([[0.1, 0.3, 0.6], [0.9, 0.05, 0.05], [0.5, 0.5, 0.0]])
    assert concepts.dominant(shares, explained).tolist() == [1, 1, 0]


def test_clusters_are_found_and_named():
    axes = np.eye(6)
    embeddings = blobs(axes[:4])
    near = {"color": axes[0], "shape": axes[1] + axes[5], "texture": axes[4]}
    near = {name: vector / np.linalg.norm(vector) for name, vector in near.items()}
    found = concepts.cluster(embeddings, near, **SETTINGS)
    assert found.names == ("color", "shape", "", "")
    assert found.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    assert found.similarity[0] > 0.99
    assert found.similarity[1] == pytest.approx(0.7, abs=0.05)
    stricter = concepts.cluster(embeddings, near, **SETTINGS | {"name_similarity": 0.9})
    assert stricter.names == ("color", "", "", "")


def test_clusters_of_one_name_are_one_concept():
    axes = np.eye(3)
    near = {"color": (axes[0] + axes[1]) / np.sqrt(2), "shape": axes[2]}
    found = concepts.cluster(blobs(axes), near, **SETTINGS)
    assert found.names == ("color", "shape")
    assert np.bincount(found.labels).tolist() == [20, 10]


def test_noise_goes_to_the_nearest_centroid_or_nowhere(monkeypatch):
    axes = np.eye(4)
    embeddings = np.concatenate([blobs(axes[:2]), [[0.0, 0.3, 0.0, -(0.91**0.5)]]])
    labels = np.array([0] * 10 + [1] * 10 + [concepts.NOISE])
    monkeypatch.setattr(concepts, "_hdbscan", lambda embeddings, *sizes: labels)
    near = {"color": axes[0], "shape": axes[1]}
    kept = concepts.cluster(embeddings, near, **SETTINGS)
    assert (kept.labels[-1], kept.noise) == (1, 1)
    dropped = concepts.cluster(embeddings, near, **SETTINGS | {"noise": "drop"})
    assert (dropped.labels[-1], dropped.noise) == (concepts.NOISE, 1)


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.eye(12), r"HDBSCAN finds no cluster in 12 descriptions.*Lower config.roles.min_cluster_size \(now 4\)"),
        (np.eye(2), "HDBSCAN finds no cluster in 2 descriptions"),
        (np.full((9, 3), np.nan), "embeddings that are not finite"),
    ],
)
def test_what_it_refuses(embeddings, message):
    with pytest.raises(UserError, match=message):
        concepts.cluster(embeddings, {"color": np.zeros(embeddings.shape[1])}, **SETTINGS)


def test_a_single_cluster_is_refused(monkeypatch):
    monkeypatch.setattr(concepts, "_hdbscan", lambda embeddings, *sizes: np.zeros(len(embeddings), int))
    with pytest.raises(UserError, match="HDBSCAN finds a single cluster in 9 descriptions"):
        concepts.cluster(np.eye(9), {"color": np.zeros(9)}, **SETTINGS)


def test_chance_tells_a_specialist_from_a_head_like_any_other():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 6, (12, 16))
    labels[0] = 3  # one concept
    variance = generator.dirichlet(np.full(16, 5.0), 12)
    variance[1] = [1.0, *[0.0] * 15]  # one description: no entropy, as any one description would have none
    p, limits = concepts.chance(labels, variance, 6, "variance", level=0.05)
    assert p[0] == pytest.approx(1 / (1 + concepts.SHUFFLES))
    assert p[1] == 1.0
    assert (p[2:] > 0.05).mean() > 0.7
    assert limits[1] == 0.0
    assert (limits[2:] > 1.0).all()
    again = concepts.chance(labels, variance, 6, "variance", level=0.05)
    np.testing.assert_array_equal(p, again[0])


def test_p_values_of_heads_without_a_concept_are_even():
    """Equal votes for random descriptions: at level 0.1 a tenth of the heads are called specialists."""
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 5, (400, 16))
    p, _ = concepts.chance(labels, generator.dirichlet(np.ones(16), 400), 5, "variance", level=0.1)
    assert (p <= 0.1).mean() == pytest.approx(0.1, abs=0.05)
