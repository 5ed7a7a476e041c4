"""Losses and fusion against closed forms."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.methods import losses
from dear_jax.methods.dear import fusion


def test_cross_entropy_of_uniform_logits_is_the_log_of_the_number_of_classes():
    assert float(losses.cross_entropy(jnp.zeros((3, 7)), jnp.array([0, 3, 6]))) == pytest.approx(math.log(7))


def test_cosine_distance():
    a = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    assert float(losses.cosine_distance(a, a)) == 0.0
    assert float(losses.cosine_distance(a, -a)) == 2.0
    assert float(losses.cosine_distance(a, a[::-1])) == 1.0


def test_absolute_distance():
    a = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    assert float(losses.absolute_distance(a, a)) == 0.0
    assert float(losses.absolute_distance(a, -a)) == 1.0


@pytest.mark.parametrize(("count", "class_start"), [(5, 0.5), (1, 0.5), (5, 0.9)])
def test_fusion_starts_where_it_is_told(count, class_start):
    theta = fusion.initialize(count, class_start)
    alpha = np.asarray(fusion.weights(theta))
    np.testing.assert_allclose(alpha, [class_start] + [(1 - class_start) / count] * count, rtol=1e-6)
    assert float(losses.fusion(theta)) == pytest.approx(-math.log(class_start), rel=1e-5)


def test_the_default_start_is_log_k():
    np.testing.assert_allclose(fusion.initialize(5, 0.5), [math.log(5), 0, 0, 0, 0, 0], rtol=1e-6)


def test_fuse_weighs_the_paths():
    logits = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    theta = jnp.array([0.3, -1.0, 2.0])
    alpha = np.exp(theta) / np.exp(theta).sum()
    expected = sum(alpha[i] * logits[:, i] for i in range(3))
    np.testing.assert_allclose(fusion.fuse(jnp.asarray(logits), theta), expected, rtol=1e-5)
