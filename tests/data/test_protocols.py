"""Summaries by the conventions of the published tables."""

import pytest

from dear_jax.data import protocols


def test_harmonic_mean():
    assert protocols.harmonic_mean(72.43, 68.14) == pytest.approx(70.22, abs=0.005)  # CLIP on ImageNet
    assert protocols.harmonic_mean(0.0, 0.0) == 0.0


def test_summary_has_population_deviation_and_the_hm_of_means():
    rows = [{"base": 80.0, "new": 60.0, "hm": 68.57}, {"base": 90.0, "new": 70.0, "hm": 78.75}]
    mean, std = protocols.summarize(rows)
    assert (mean["base"], mean["new"]) == (85.0, 65.0)
    assert mean["hm"] == pytest.approx(2 * 85 * 65 / 150)
    assert std["base"] == 5.0
