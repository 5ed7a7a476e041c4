"""Bins of the entropy histogram: both thresholds are edges, and every head is on its side of them."""

import numpy as np
import pytest

from dear_jax.report.entropy_bins import entropy_bins


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [3, 16, 144])
def test_no_bin_mixes_two_sides_of_a_threshold(seed, count):
    entropies = np.random.default_rng(seed).uniform(0, 3.5, count)
    low, high = np.quantile(entropies, [1 / 3, 2 / 3])
    edges, bins = entropy_bins(entropies.tolist(), float(low), float(high))
    for threshold in (low, high):
        assert np.abs(edges - threshold).min() < 1e-9
    left, right = edges[:-1][bins], edges[1:][bins]
    assert (left - 1e-9 <= entropies).all()
    assert (entropies <= right + 1e-9).all()
    assert (right[entropies <= low] <= low + 1e-9).all()
    assert (left[entropies >= high] >= high - 1e-9).all()
    assert len(bins) == count
    assert 3 <= len(edges) <= 45


@pytest.mark.parametrize(
    ("entropies", "low", "high"),
    [
        ([0.0], 0.0, 0.0),
        ([0.0, 0.0, 1.0], 0.0, 0.0),
        ([1.0, 2.0], 1.5, 1.5),
        ([1.0, 2.0], 0.5, 9.0),
        ([2.0], 1.0, 1.0001),
    ],
)
def test_extreme_thresholds(entropies, low, high):
    edges, bins = entropy_bins(entropies, low, high)
    assert len(edges) < 60
    assert all(edges[place] - 1e-9 <= e <= edges[place + 1] + 1e-9 for e, place in zip(entropies, bins, strict=True))
