"""Losses that methods share, all float32 scalars."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int


def cross_entropy(logits: Float[Array, "B C"], labels: Int[Array, "B"]) -> Float[Array, ""]:
    """Mean over the batch of -log softmax(logits)[label], in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def of_logits(logits: Float[Array, "B C"], labels: Int[Array, "B"]) -> dict[str, Float[Array, ""]]:
    """The parts of a loss that follow from the logits of a prediction: their cross-entropy and accuracy in [0, 1]."""
    accuracy = jnp.mean(jnp.argmax(logits, axis=-1) == labels)
    return {"cross_entropy": cross_entropy(logits, labels), "accuracy": accuracy}


def cosine_distance(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> Float[Array, ""]:
    """Mean of 1 - cos(a_n, b_n) for rows of unit length; in [0, 2]."""
    return 1 - jnp.sum(a * b, axis=-1).mean()


def absolute_distance(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> Float[Array, ""]:
    """Mean absolute difference of the components, PromptSRC's form of the same."""
    return jnp.abs(a - b).mean()


def divergence(logits: Float[Array, "B C"], plain: Float[Array, "B C"]) -> Float[Array, ""]:
    """Mean over B and C of q0 (log q0 - log q), where q0 = softmax(plain) and q = softmax(logits), in nats."""
    found, expected = (jax.nn.log_softmax(of, axis=-1) for of in (logits, plain))
    return jnp.mean(jnp.exp(expected) * (expected - found))


DISTANCES = {"cosine": cosine_distance, "l1": absolute_distance}  # between adapted and frozen features
