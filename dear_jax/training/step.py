"""The pure train and evaluation step of ONE run, and those of all runs.

A job trains S seeds and V variants together (design decision: two leading axes): adapters `[S, V, ...]`,
images `[S, B, ...]`, settings `[V, ...]`. What does not depend on an axis is computed once for all of it: the frozen
side of the images once per image, whatever the number of variants; the frozen text prefix once per run.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax.clip.layers import Params
from dear_jax.methods import losses
from dear_jax.methods.dear import fusion
from dear_jax.methods.dear.model import Model, Prompts, Settings, logit_scale, path_logits
from dear_jax.methods.dear.tokens import Adapter
from dear_jax.training import optimizer as optimizers

Each = Callable[[Callable[..., Any]], Callable[..., Any]]


class Frozen(NamedTuple):
    """Arrays that training never changes."""

    params: Params  # of CLIP
    prompts: Prompts  # of the classes at hand


class Seen(NamedTuple):
    """What frozen CLIP makes of a batch of images, whatever the adapter."""

    prefix: Float[Array, "B+ 1+P D"]
    features: Float[Array, "B+ d"]


class TrainState(NamedTuple):
    """All that a step changes; a checkpoint holds exactly this."""

    adapter: Adapter
    optimizer_state: Any
    step: Int[Array, ""]


class Metrics(NamedTuple):
    """Float32 scalars of one step."""

    loss: Array
    cross_entropy: Array
    regularization: Array  # L_reg, before its weight
    fusion: Array  # L_fusion, before its weight
    accuracy: Array  # of the fused prediction on the batch, in [0, 1]
    gradient_norm: Array
    class_weight: Array  # alpha_cls


def create_state(adapter: Adapter, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(adapter, optimizer.init(adapter), jnp.zeros((), jnp.int32))


def look(model: Model, params: Params, images: UInt8[Array, "B+ h w 3"]) -> Seen:
    """The frozen side of a step; its branch shares the prefix with the adapted one."""
    prefix = model.image_prefix(params, images)
    return Seen(prefix, model.plain_features(params, prefix))


def loss(
    model: Model,
    adapter: Adapter,
    frozen: Frozen,
    seen: Seen,
    labels: Int[Array, "B"],
    settings: Settings,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """CE(fused logits) + lambda_reg * L_reg + lambda_fusion * L_fusion (methods/dear section 4), and its parts.

    Only the adapted suffixes depend on `adapter`, so that no gradient passes through anything else. Images beyond the
    B labels only fill up the devices: their features are dropped.
    """
    plain = seen.features[: len(labels)]
    classes = model.text_features(adapter, frozen.params, frozen.prompts, settings.beta)
    features = model.image_features(adapter, frozen.params, settings, seen.prefix)[: len(labels)]
    logits = fusion.fuse(path_logits(features, classes, logit_scale(frozen.params)), adapter["fusion"])

    distance = losses.DISTANCES[model.regularization]
    parts = {
        "cross_entropy": losses.cross_entropy(logits, labels),
        "regularization": distance(features[:, 0], plain) + distance(classes, frozen.prompts.features),
        "fusion": losses.fusion(adapter["fusion"]),
        "accuracy": jnp.mean(jnp.argmax(logits, axis=-1) == labels),
    }
    total = (
        parts["cross_entropy"]
        + settings.reg_weight * parts["regularization"]
        + settings.fusion_weight * parts["fusion"]
    )
    return total, parts


def train_step(
    model: Model,
    length: optimizers.Length,
    state: TrainState,
    frozen: Frozen,
    seen: Seen,
    labels: Int[Array, "B"],
    settings: Settings,
    rates: optimizers.Rates,
) -> tuple[TrainState, Metrics]:
    """One update of the adapter."""
    optimizer = optimizers.make(rates, length)
    differentiate = jax.value_and_grad(functools.partial(loss, model), has_aux=True)
    (total, parts), gradients = differentiate(state.adapter, frozen, seen, labels, settings)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.adapter)
    metrics = Metrics(
        loss=total,
        gradient_norm=optax.tree.norm(gradients),
        class_weight=fusion.weights(state.adapter["fusion"])[0],
        **parts,
    )
    adapter = optax.apply_updates(state.adapter, updates)
    return TrainState(adapter, optimizer_state, state.step + 1), metrics


def train_runs(
    each: Each,
    model: Model,
    length: optimizers.Length,
    state: TrainState,
    frozen: Frozen,
    images: UInt8[Array, "S B+ h w 3"],
    labels: Int[Array, "S B"],
    settings: Settings,
    rates: optimizers.Rates,
) -> tuple[TrainState, Metrics]:
    """One update of every run: state and metrics `[S, V, ...]`, settings and rates `[V]`.

    `each` maps a function over the first axis of its arguments: `jax.vmap`, or `in_turn`.
    """

    def of_seed(state: TrainState, images: Array, labels: Array) -> tuple[TrainState, Metrics]:
        seen = look(model, frozen.params, images)

        def of_variant(state: TrainState, settings: Settings, rates: optimizers.Rates) -> tuple[TrainState, Metrics]:
            return train_step(model, length, state, frozen, seen, labels, settings, rates)

        return cast(tuple[TrainState, Metrics], each(of_variant)(state, settings, rates))

    return cast(tuple[TrainState, Metrics], each(of_seed)(state, images, labels))


def in_turn(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.vmap(function)`, one entry after the other: memory is that of one."""
    return lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)


def correct(
    model: Model,
    adapter: Adapter,
    params: Params,
    classes: Float[Array, "C d"],
    prefix: Float[Array, "B 1+P D"],
    labels: Int[Array, "B"],
    settings: Settings,
    modes: Sequence[fusion.Mode] = ("learned",),
) -> Bool[Array, "F B"]:
    """Which images each way to fuse gets right, `classes` being the adapted text features."""
    features = model.image_features(adapter, params, settings, prefix)
    paths = path_logits(features, classes, logit_scale(params))
    fused = jnp.einsum("bic,fi->fbc", paths, fusion.modes(adapter["fusion"], modes))
    return jnp.argmax(fused, axis=-1) == labels[None]


def correct_zero_shot(
    model: Model,
    params: Params,
    classes: Float[Array, "C d"],
    prefix: Float[Array, "B 1+P D"],
    labels: Int[Array, "B"],
) -> Bool[Array, "B"]:
    """The same for plain CLIP, `classes` being its own text features."""
    return jnp.argmax(model.plain_features(params, prefix) @ classes.T, axis=-1) == labels


def each_run(function: Callable[[Any, Settings], Any], runs: Any, settings: Settings) -> Any:
    """The evaluation of all runs, one after the other.

    Args:
        function: of the leaves of one run, and of its settings.
        runs: leaves `[S, V, ...]`.
        settings: leaves `[V, ...]`.
    """
    return in_turn(lambda seed: in_turn(function)(seed, settings))(runs)
