"""The pure train step of ONE run, and that of all runs.

A job trains S seeds and V variants together (two leading axes): adapters `[S, V, ...]`, images `[S, B, ...]`, settings
`[V, ...]`. What does not depend on an axis is computed once for all of it: the frozen side of the images once per
image, whatever the number of variants; the frozen side of the class prompts once per run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, UInt8

from dear_jax.clip.split import Frozen, Seen
from dear_jax.methods.contract import Adapter, Length, Method, Settings
from dear_jax.training.optimizer import Optimizer, Rates

Each = Callable[[Callable[..., Any]], Callable[..., Any]]
Metrics = dict[str, Array]  # float32 scalars of a step: loss, gradient_norm, learning_rate, parts of the method's loss


class TrainState(NamedTuple):
    """All that a step changes; a checkpoint holds exactly this."""

    adapter: Adapter
    optimizer_state: Any
    step: Int[Array, ""]
    carried: Any = ()  # the method's own, see `Method.carry`


def create_state(adapter: Adapter, carried: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(adapter, optimizer.init(adapter), jnp.zeros((), jnp.int32), carried)


def train_step(
    method: Method,
    optimizer: Optimizer,
    length: Length,
    state: TrainState,
    frozen: Frozen,
    seen: Seen,
    labels: Int[Array, "B"],
    settings: Settings,
    rates: Rates,
) -> tuple[TrainState, Metrics]:
    """One update of the adapter, the only tree that is differentiated."""
    rule = optimizer.make(rates, length)
    differentiate = jax.value_and_grad(method.loss, has_aux=True)
    (total, parts), gradients = differentiate(state.adapter, settings, frozen, seen, labels, state.carried)
    updates, optimizer_state = rule.update(gradients, state.optimizer_state, state.adapter)
    rate = optimizer.learning_rate(rates, length)(state.step)
    metrics = {"loss": total, "gradient_norm": optax.tree.norm(gradients), "learning_rate": rate, **parts}
    adapter, number = optax.apply_updates(state.adapter, updates), state.step + 1
    carried = method.carry(state.carried, adapter, number, length)
    return TrainState(adapter, optimizer_state, number, carried), metrics


def train_runs(
    each: Each,
    method: Method,
    optimizer: Optimizer,
    length: Length,
    state: TrainState,
    frozen: Frozen,
    images: UInt8[Array, "S B h w 3"],
    labels: Int[Array, "S labelled"],
    settings: Settings,
    rates: Rates,
) -> tuple[TrainState, Metrics]:
    """One update of every run: state and metrics `[S, V, ...]`, settings and rates `[V]`.

    `each` maps a function over the first axis of its arguments: `jax.vmap`, or `axes.in_turn`. Images beyond the
    labelled ones only fill up the devices.
    """

    def of_seed(state: TrainState, images: Array, labels: Array) -> tuple[TrainState, Metrics]:
        seen = method.split.look(frozen.params, images)

        def of_variant(state: TrainState, settings: Settings, rates: Rates) -> tuple[TrainState, Metrics]:
            return train_step(method, optimizer, length, state, frozen, seen, labels, settings, rates)

        return cast(tuple[TrainState, Metrics], each(of_variant)(state, settings, rates))

    return cast(tuple[TrainState, Metrics], each(of_seed)(state, images, labels))
