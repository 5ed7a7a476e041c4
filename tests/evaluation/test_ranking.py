"""Rankings and their measures: by hand, against plain loops in float64, and against all permutations."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dear_jax.evaluation import ranking as retrieval

T, F = True, False


def unit(seed: int, *shape: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("relevant", "average", "first_two"),
    [
        ([T, F, F, F], 1, 1 / 2),
        ([F, F, F, T], 1 / 4, 0),
        ([T, F, T, F], (1 / 1 + 2 / 3) / 2, 1 / 2),
        ([F, T, T, T], (1 / 2 + 2 / 3 + 3 / 4) / 3, 1 / 2),
        ([T, T, T, T], 1, 1),
        ([F, F, F, F], np.nan, np.nan),
    ],
)
def test_by_hand(relevant, average, first_two):
    rows = np.array([relevant])
    np.testing.assert_allclose(retrieval.average_precision(rows), [average])
    np.testing.assert_allclose(retrieval.precision_at(rows, 2), [first_two])
    np.testing.assert_allclose(retrieval.precision_at(rows, 9), retrieval.precision_at(rows, 4))


def test_equal_cosines_keep_the_gallerys_order():
    gallery = np.array([[0, 1], [1, 0], [0, 1], [1, 0]], np.float32)
    order = retrieval.ranking(np.array([[1, 0]], np.float32), gallery)
    assert order.tolist() == [[1, 3, 0, 2]]
    assert retrieval.ranking(gallery, gallery, top=1)[:, 0].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("chunk", [1, 100, 2**24])
def test_scores_are_those_of_plain_loops_in_float64(monkeypatch, chunk):
    monkeypatch.setattr(retrieval, "CHUNK", chunk)
    queries, gallery = unit(0, 12, 5), unit(1, 60, 5)
    random = np.random.default_rng(2)
    labels = {
        "color": (random.choice(["red", "blue", "pink"], 12), random.choice(["red", "blue"], 60)),  # no pink one
        "class": (random.integers(0, 4, 12), random.integers(0, 4, 60)),
    }
    found = retrieval.score(queries, gallery, labels, k=10)
    for kind, (ours, theirs) in labels.items():
        precisions, averages = [], []
        for query, label in zip(queries.astype(np.float64), ours, strict=True):
            cosines = [float(query @ image) for image in gallery.astype(np.float64)]
            ranked = sorted(range(60), key=lambda i, cosines=cosines: -cosines[i])
            hits = [theirs[i] == label for i in ranked]
            if not any(hits):
                continue
            precisions.append(sum(hits[:10]) / 10)
            at = [sum(hits[: r + 1]) / (r + 1) for r in range(60) if hits[r]]
            averages.append(sum(at) / len(at))
            assert averages[-1] == pytest.approx(average_precision_score(theirs == label, cosines))
        assert found[kind].precision == pytest.approx(np.mean(precisions), rel=1e-12)
        assert found[kind].mean_average_precision == pytest.approx(np.mean(averages), rel=1e-12)
        assert retrieval.matched(ours, theirs) == len(averages)


@pytest.mark.parametrize("relevant", [1, 2, 4, 5])
def test_chance_is_the_mean_over_all_rankings(relevant):
    gallery = np.array([1] * relevant + [0] * (5 - relevant))
    rankings = np.array(list(itertools.permutations(gallery == 1)))
    chance = retrieval.chance(np.array([1, 7]), gallery)  # nothing is relevant to the second
    assert chance.precision == pytest.approx(retrieval.precision_at(rankings, 3).mean())
    assert chance.mean_average_precision == pytest.approx(retrieval.average_precision(rankings).mean())


def test_nothing_relevant_is_no_number():
    labels = {"class": (np.array(["a"]), np.array(["b", "c"]))}
    assert np.isnan(retrieval.score(unit(0, 1, 4), unit(1, 2, 4), labels, 1)["class"]).all()
    assert np.isnan(retrieval.chance(*labels["class"])).all()
