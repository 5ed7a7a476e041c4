"""AdamW with the per-epoch cosine of CoOp's family (METHOD.md section 5)."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


def learning_rate(
    peak: float,
    *,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: int,
    warmup_learning_rate: float,
) -> optax.Schedule:
    """Constant within an epoch e = 0, 1, ...: the warm-up rate, then peak/2 (1 + cos(pi (e - warmup_epochs) / epochs)).

    The cosine's period is the number of all epochs, so that the last epochs keep a little rate, as in Dassl.
    """

    def schedule(step: Int[Array, ""]) -> Array:
        epoch = step // steps_per_epoch
        cosine = 0.5 * peak * (1 + jnp.cos(jnp.pi * (epoch - warmup_epochs) / epochs))
        return jnp.where(epoch < warmup_epochs, warmup_learning_rate, cosine)

    return schedule


def make(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """AdamW with PyTorch's defaults (beta 0.9 and 0.999, epsilon 1e-8) and decoupled weight decay."""
    return optax.adamw(schedule, b1=0.9, b2=0.999, eps=1e-8, weight_decay=weight_decay)
