"""TEXTSPAN against the algorithm written out in float64 over the contributions themselves."""

import numpy as np
import pytest

from dear_jax.errors import UserError
from dear_jax.roles import textspan


def reference(contributions, bank, descriptions, rank):
    """Gandelsman et al., Algorithm 1: one head, `[N, d]` in memory."""
    data = contributions.astype(np.float64)
    basis = np.linalg.svd(data, full_matrices=False)[2][:rank]
    texts = bank.astype(np.float64) @ basis.T @ basis
    data = data - data.mean(0)
    total = (data**2).sum()
    picks, variance = [], []
    for _ in range(descriptions):
        spread = (data @ texts.T).var(0)
        best = int(spread.argmax())
        direction = texts[best] / np.linalg.norm(texts[best])
        picks.append(best)
        variance.append(((data @ direction) ** 2).sum() / total)
        data = data - np.outer(data @ direction, direction)
        texts = texts - np.outer(texts @ direction, direction)
    return picks, variance


@pytest.mark.parametrize(("seed", "rank"), [(0, 12), (1, 24), (2, 80)])
def test_equals_the_plain_float64_algorithm(seed, rank):
    generator = np.random.default_rng(seed)
    images, heads, width = 300, 5, 24
    scales = generator.uniform(0.1, 3, (heads, width))
    contributions = generator.normal(size=(images, heads, width)) * scales + generator.normal(size=(heads, width))
    contributions = contributions.astype(np.float16)
    bank = generator.normal(size=(150, width)) + 0.5
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    spans = textspan.textspan(textspan.moments(contributions), bank, descriptions=8, rank=rank)
    for head in range(heads):
        picks, variance = reference(contributions[:, head], bank, 8, min(rank, width))
        assert spans.picks[head].tolist() == picks
        np.testing.assert_allclose(spans.variance[head], variance, rtol=1e-3, atol=1e-6)


def test_all_directions_explain_all_variance():
    generator = np.random.default_rng(0)
    contributions = generator.normal(size=(100, 2, 6)).astype(np.float32)
    bank = np.linalg.qr(generator.normal(size=(6, 6)))[0]
    spans = textspan.textspan(textspan.moments(contributions), bank, descriptions=6, rank=6)
    np.testing.assert_allclose(spans.variance.sum(1), 1, rtol=1e-5)
    assert sorted(spans.picks[0]) == list(range(6))


def test_a_description_is_picked_once_even_when_none_is_left():
    contributions = np.zeros((20, 1, 4), np.float32)
    contributions[:, 0, 0] = np.arange(20)  # one direction only
    bank = np.eye(4)
    spans = textspan.textspan(textspan.moments(contributions), bank, descriptions=4, rank=4)
    assert spans.picks[0, 0] == 0
    assert sorted(spans.picks[0]) == [0, 1, 2, 3]
    np.testing.assert_allclose(spans.variance[0], [1, 0, 0, 0], atol=1e-6)


def test_a_head_that_contributes_the_same_to_every_image_explains_nothing():
    spans = textspan.textspan(textspan.moments(np.ones((10, 1, 4), np.float16)), np.eye(4), descriptions=3, rank=4)
    np.testing.assert_allclose(spans.variance, 0, atol=1e-6)


def test_moments_do_not_depend_on_the_chunks(monkeypatch):
    contributions = np.random.default_rng(0).normal(5, 1, (25, 3, 4)).astype(np.float16)
    whole = textspan.moments(contributions)
    monkeypatch.setattr(textspan, "CHUNK", 7)
    parts = textspan.moments(contributions)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-12)
    np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=1e-5, atol=1e-7)
    exact = contributions.astype(np.float64)
    for head in range(3):
        np.testing.assert_allclose(whole.covariance[head], np.cov(exact[:, head].T, bias=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "bank", "descriptions", "rank", "message"),
    [
        (5, np.eye(8), 3, 8, "5 images cannot span a rank of 8: give at least 8 images"),
        (50, np.eye(8)[:2], 3, 8, "The bank has 2 descriptions, fewer than the 3"),
        (50, np.eye(8), 8, 4, "config.roles.descriptions is 8, more than the 4 directions"),
        (50, np.full((8, 8), np.nan), 3, 8, "description 1 of the bank is not finite"),
    ],
)
def test_what_it_refuses(images, bank, descriptions, rank, message):
    contributions = np.random.default_rng(0).normal(size=(images, 2, 8))
    with pytest.raises(UserError, match=message):
        textspan.textspan(textspan.moments(contributions), bank, descriptions=descriptions, rank=rank)


def test_contributions_that_are_not_finite_are_refused():
    contributions = np.ones((10, 2, 4), np.float16)
    contributions[3, 1, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        textspan.moments(contributions)
