"""AdamW with the per-epoch cosine of CoOp's family (methods/dear section 5)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dear_jax.methods.contract import Length


class Rates(NamedTuple):
    """What variants of a run may set apart: float32 scalars, or `[V]`."""

    learning_rate: Float[Array, ""]  # peak
    warmup_learning_rate: Float[Array, ""]
    warmup_epochs: Float[Array, ""]
    weight_decay: Float[Array, ""]


def schedule(rates: Rates, length: Length) -> optax.Schedule:
    """Constant within an epoch e = 0, 1, ...: the warm-up rate, then peak/2 (1 + cos(pi (e - warmup_epochs) / epochs)).

    The cosine's period is the number of all epochs, so that the last epochs keep a little rate, as in Dassl.
    """

    def learning_rate(step: Int[Array, ""]) -> Array:
        epoch = (step // length.steps_per_epoch).astype(jnp.float32)
        cosine = 0.5 * rates.learning_rate * (1 + jnp.cos(jnp.pi * (epoch - rates.warmup_epochs) / length.epochs))
        return jnp.where(epoch < rates.warmup_epochs, rates.warmup_learning_rate, cosine)

    return learning_rate


def make(rates: Rates, length: Length) -> optax.GradientTransformation:
    """AdamW with PyTorch's defaults (beta 0.9 and 0.999, epsilon 1e-8) and decoupled weight decay.

    Its state does not depend on the rates.
    """
    adamw = optax.adamw(schedule(rates, length), b1=0.9, b2=0.999, eps=1e-8, weight_decay=rates.weight_decay)

    def update(*arguments: Any) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of an int32 count
            return adamw.update(*arguments)

    return optax.GradientTransformation(adamw.init, update)
