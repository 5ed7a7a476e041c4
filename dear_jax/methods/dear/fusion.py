"""Fusion of class and attribute evidence: alpha = softmax(theta), methods/dear section 4."""

import contextlib
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dear_jax.errors import UserError

MODES = ("learned", "class_only", "equal")
Mode = str | float


def initialize(count: int, class_start: float) -> Float[Array, "1+K"]:
    """theta with alpha_cls = class_start in (0, 1) and the K attributes sharing the rest equally."""
    return jnp.zeros(1 + count).at[0].set(math.log(count * class_start / (1 - class_start)))


def weights(theta: Float[Array, "1+K"]) -> Float[Array, "1+K"]:
    """alpha: the share of each path, class first; positive, sums to 1."""
    return jax.nn.softmax(theta)


def modes(theta: Float[Array, "1+K"], names: Sequence[Mode]) -> Float[Array, "F 1+K"]:
    """alpha under several ways to fuse: `learned`, `class_only`, `equal`, or a number, alpha_cls (the rest shared)."""
    count = theta.shape[0] - 1
    fixed = {"class_only": 1.0, "equal": 1 / (1 + count)}

    def row(name: Mode) -> Float[Array, "1+K"]:
        if name == "learned":
            return weights(theta)
        share = fixed[name] if isinstance(name, str) else name
        return jnp.full(1 + count, (1 - share) / count).at[0].set(share)

    return jnp.stack([row(name) for name in names])


def parse_mode(text: str) -> Mode:
    """A mode by its name or as a number of [0, 1].

    Raises:
        UserError: it is neither.
    """
    if text in MODES:
        return text
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise UserError(
        f"config.fusion.new_classes is {text!r}: expected {', '.join(MODES)} or a number in [0, 1], "
        "the weight of the class path."
    )


def from_first(chosen: Mode) -> tuple[Mode, ...]:
    """All modes, the chosen one first."""
    return (chosen, *(mode for mode in MODES if mode != chosen))


def fuse(logits: Float[Array, "B 1+K C"], theta: Float[Array, "1+K"]) -> Float[Array, "B C"]:
    """Prediction: sum over paths i of alpha_i * logits_i."""
    return jnp.einsum("bic,i->bc", logits, weights(theta))
