"""Losses against closed forms."""

import math

import jax.numpy as jnp
import pytest

from dear_jax.methods import losses


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
