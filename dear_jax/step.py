"""The pure train and evaluation step of ONE run, and their vmapped forms.

A job trains S seeds and V variants together (design decision: two leading axes): adapters `[S, V, ...]`,
images `[S, B, ...]`, settings `[V, ...]`. What does not depend on an axis is computed once for all of it: the frozen
vision prefix once per image, whatever the number of variants; the frozen text prefix once per run.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax import losses
from dear_jax import optimizer as optimizers
from dear_jax.adapt import fusion
from dear_jax.adapt.model import Model, Prompts, Settings, logit_scale, path_logits
from dear_jax.adapt.tokens import Adapter
from dear_jax.clip.layers import Params


class Frozen(NamedTuple):
    """Arrays that training never changes."""

    params: Params  # of CLIP
    prompts: Prompts  # of the classes at hand


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


def loss(
    model: Model,
    adapter: Adapter,
    frozen: Frozen,
    images: UInt8[Array, "B+ h w 3"],
    labels: Int[Array, "B"],
    settings: Settings,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """CE(fused logits) + lambda_reg * L_reg + lambda_fusion * L_fusion (METHOD.md section 4), and its parts.

    The frozen branch shares the prefix with the adapted one; only the adapted suffixes depend on `adapter`, so that
    no gradient passes through anything else. Images beyond the B labels only fill up the devices: their features are
    dropped.
    """
    prefix = model.image_prefix(frozen.params, images)
    plain = model.plain_features(frozen.params, prefix)[: len(labels)]
    classes = model.text_features(adapter, frozen.params, frozen.prompts, settings.beta)
    features = model.image_features(adapter, frozen.params, settings, prefix)[: len(labels)]
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
    images: UInt8[Array, "B+ h w 3"],
    labels: Int[Array, "B"],
    settings: Settings,
    rates: optimizers.Rates,
) -> tuple[TrainState, Metrics]:
    """One update of the adapter."""
    optimizer = optimizers.make(rates, length)
    differentiate = jax.value_and_grad(functools.partial(loss, model), has_aux=True)
    (total, parts), gradients = differentiate(state.adapter, frozen, images, labels, settings)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer_state, state.adapter)
    metrics = Metrics(
        loss=total,
        gradient_norm=optax.tree.norm(gradients),
        class_weight=fusion.weights(state.adapter["fusion"])[0],
        **parts,
    )
    adapter = optax.apply_updates(state.adapter, updates)
    return TrainState(adapter, optimizer_state, state.step + 1), metrics


def count_correct(
    model: Model,
    adapter: Adapter,
    params: Params,
    classes: Float[Array, "C d"],
    prefix: Float[Array, "B 1+P D"],
    labels: Int[Array, "B"],
    valid: Bool[Array, "B"],
    settings: Settings,
    modes: Sequence[fusion.Mode] = ("learned",),
) -> Int[Array, "F"]:
    """Valid images that each way to fuse gets right, `classes` being the adapted text features."""
    features = model.image_features(adapter, params, settings, prefix)
    paths = path_logits(features, classes, logit_scale(params))
    fused = jnp.einsum("bic,fi->fbc", paths, fusion.modes(adapter["fusion"], modes))
    return jax.vmap(_count, in_axes=(0, None, None))(fused, labels, valid)


def count_correct_zero_shot(
    model: Model,
    params: Params,
    classes: Float[Array, "C d"],
    prefix: Float[Array, "B 1+P D"],
    labels: Int[Array, "B"],
    valid: Bool[Array, "B"],
) -> Int[Array, ""]:
    """The same for plain CLIP, `classes` being its own text features."""
    return _count(model.plain_features(params, prefix) @ classes.T, labels, valid)


def _count(logits: Float[Array, "B C"], labels: Int[Array, "B"], valid: Bool[Array, "B"]) -> Int[Array, ""]:
    return jnp.sum((jnp.argmax(logits, axis=-1) == labels) & valid)


def over_runs(function: Any, seeds: tuple[int | None, ...], variants: tuple[int | None, ...]) -> Any:
    """Map a function of one run over the S and V axes, outermost first.

    Args:
        function: positional arguments in, arrays out with leading axes `[S, V, ...]`.
        seeds: per argument, 0 where it has a seed axis, else None.
        variants: per argument, 0 where it has a variant axis (after the seed axis is taken), else None.
    """
    return jax.vmap(jax.vmap(function, in_axes=variants), in_axes=seeds)


def each_run(function: Callable[[Any, Settings], Any], runs: Any, settings: Settings) -> Any:
    """The same for evaluation, one run after the other: its memory is that of one.

    Args:
        function: of the leaves of one run, and of its settings.
        runs: leaves `[S, V, ...]`.
        settings: leaves `[V, ...]`.
    """
    return jax.lax.map(lambda seed: jax.lax.map(lambda run: function(*run), (seed, settings)), runs)
