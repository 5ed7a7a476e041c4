"""The optimizers of the field as optax chains, each as PyTorch's own, with the schedules of Dassl and CLIP-LoRA."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dear_jax.methods.contract import Length

ADAMW, ADAM, SGD = "adamw", "adam", "sgd"
NAMES = (ADAMW, ADAM, SGD)
EPOCH_COSINE, STEP_COSINE, CONSTANT = "epoch_cosine", "step_cosine", "constant"
SCHEDULES = (EPOCH_COSINE, STEP_COSINE, CONSTANT)


class Rates(NamedTuple):
    """What variants of a run may set apart: float32 scalars, or `[V]`."""

    learning_rate: Float[Array, ""]  # peak
    warmup_learning_rate: Float[Array, ""]
    warmup_epochs: Float[Array, ""]
    weight_decay: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The rule by which a run's adapters are updated, fixed when its step is compiled.

    Attributes:
        name: `adamw`: decay apart from the gradient; `adam`, `sgd`: decay * parameter added to the gradient, as
            PyTorch's and Dassl's do. Adam's betas are 0.9 and 0.999.
        epsilon: of adam and adamw.
        momentum: of sgd: buffer = momentum * buffer + gradient, without dampening or Nesterov.
        schedule: one of SCHEDULES, see `learning_rate`.
        final_learning_rate: where `step_cosine` ends.
    """

    name: str = ADAMW
    epsilon: float = 1e-8
    momentum: float = 0.9
    schedule: str = EPOCH_COSINE
    final_learning_rate: float = 0.0

    def learning_rate(self, rates: Rates, length: Length) -> optax.Schedule:
        """The rate of each update, counted from 0; in the first `warmup_epochs` that of the warm-up.

        `epoch_cosine`: constant within an epoch e = 0, 1, ...: peak/2 (1 + cos(pi (e - warmup_epochs) / epochs)). The
        cosine's period is the number of all epochs, so that the last ones keep a little rate, as in Dassl.
        `step_cosine`: final + (peak - final)/2 (1 + cos(pi n / N)) at update n of N, PyTorch's CosineAnnealingLR.
        `constant`: the peak.
        """

        def learning_rate(step: Int[Array, ""]) -> Array:
            epoch = (step // length.steps_per_epoch).astype(jnp.float32)
            peak, last = rates.learning_rate, 0.0
            if self.schedule == EPOCH_COSINE:
                done = (epoch - rates.warmup_epochs) / length.epochs
            elif self.schedule == STEP_COSINE:
                done, last = step.astype(jnp.float32) / length.steps, self.final_learning_rate
            else:
                done = jnp.zeros(())
            rate = last + 0.5 * (peak - last) * (1 + jnp.cos(jnp.pi * done))
            return jnp.where(epoch < rates.warmup_epochs, rates.warmup_learning_rate, rate)

        return learning_rate

    def make(self, rates: Rates, length: Length) -> optax.GradientTransformation:
        """The chain. Its state does not depend on the rates."""
        rate, decay = self.learning_rate(rates, length), rates.weight_decay
        if self.name == ADAMW:
            chain = optax.adamw(rate, b1=0.9, b2=0.999, eps=self.epsilon, weight_decay=decay)
        elif self.name == ADAM:
            adam = optax.adam(rate, b1=0.9, b2=0.999, eps=self.epsilon)
            chain = optax.chain(optax.add_decayed_weights(decay), adam)
        else:
            chain = optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum=self.momentum))

        def update(*arguments: Any) -> tuple[Any, Any]:
            with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of an int32 count
                return chain.update(*arguments)

        return optax.GradientTransformation(chain.init, update)
