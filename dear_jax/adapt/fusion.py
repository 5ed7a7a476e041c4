"""Fusion of class and attribute evidence: alpha = softmax(theta), METHOD.md section 4."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def initialize(count: int, class_start: float) -> Float[Array, "1+K"]:
    """theta with alpha_cls = class_start in (0, 1) and the K attributes sharing the rest equally."""
    return jnp.zeros(1 + count).at[0].set(math.log(count * class_start / (1 - class_start)))


def weights(theta: Float[Array, "1+K"]) -> Float[Array, "1+K"]:
    """alpha: the share of each path, class first; positive, sums to 1."""
    return jax.nn.softmax(theta)


def fuse(logits: Float[Array, "B 1+K C"], theta: Float[Array, "1+K"]) -> Float[Array, "B C"]:
    """Prediction: sum over paths i of alpha_i * logits_i."""
    return jnp.einsum("bic,i->bc", logits, weights(theta))
