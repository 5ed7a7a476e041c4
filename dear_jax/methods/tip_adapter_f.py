"""Tip-Adapter-F: Tip-Adapter whose keys are trained.

Zhang et al., ECCV 2022, see tip_adapter; official code github.com/gaopengcuhk/Tip-Adapter at d0e2d6f. The keys k_i
start as the cache and are trained by the cross-entropy of Tip-Adapter's logits at the alpha and beta that it starts
from, on features of images that are cropped anew in each step. After the last epoch those keys are kept that had the
most validation images right at an epoch's end, of several the first; then alpha and beta are chosen as in Tip-Adapter,
and kept if they are better on the validation images than those that it started from. Learned are C S d numbers.

Departures, beside Tip-Adapter's: the official code chooses the epoch by the accuracy on the TEST images, and between
the searched alpha and beta and the first ones too (its issue 11); without validation images apart from these, the
last epoch and the first alpha and beta are taken here. What is left of an epoch's images after its full batches is
dropped, as in all methods here; there it is a smaller batch.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dear_jax.clip.layers import Params, unit
from dear_jax.clip.split import Frozen, Seen
from dear_jax.methods import losses
from dear_jax.methods.contract import Adapter, Support
from dear_jax.methods.tip_adapter import Settings, TipAdapter, evaluate, search


class Carried(NamedTuple):
    """What training carries along: the classes of the keys, and the best keys so far."""

    labels: Int[Array, "N"]
    keys: Float[Array, "N d"]
    correct: Int[Array, ""]  # validation images that the best keys have right
    epoch: Int[Array, ""]  # at whose end they were
    epochs: Int[Array, ""]  # that are done


@dataclasses.dataclass(frozen=True)
class TipAdapterF(TipAdapter):
    """A cache whose keys are trained."""

    steps: ClassVar[bool] = True

    def adapter_like(self, params: Params, classes: int, start: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """The keys."""
        return {"keys": self.learned_like(params, classes, start)["keys"]}

    def meet(self, adapter: Adapter, carried: Any, support: Support) -> tuple[Adapter, Carried]:
        """The cache of Tip-Adapter."""
        keys = unit(jnp.asarray(support.features))
        none = jnp.zeros((), jnp.int32)
        return {"keys": keys}, Carried(jnp.asarray(support.labels), keys, none, none, none)

    def loss(
        self,
        adapter: Adapter,
        settings: Settings,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The cross-entropy of the logits at the first alpha and beta."""
        cache = adapter | {"labels": carried.labels, "alpha": settings.alpha, "beta": settings.beta}
        seen = jax.tree.map(lambda leaf: leaf[: len(labels)], seen)
        logits = self.logits(cache, settings, frozen.params, frozen.prompts.features, seen)[:, 0]
        parts = losses.of_logits(logits, labels)
        return parts.pop("cross_entropy"), parts

    def review(
        self, adapter: Adapter, carried: Carried, settings: Settings, params: Params, support: Support
    ) -> Carried:
        """The keys are the best so far if they have more validation images right; without any, the last are."""
        epoch = carried.epochs + 1
        cache = {"keys": adapter["keys"], "labels": carried.labels}
        correct = evaluate(cache, settings.alpha[None], settings.beta[None], params, support).correct
        if len(support.val_labels) and correct <= carried.correct:
            return carried._replace(epochs=epoch)
        return carried._replace(keys=adapter["keys"], correct=jnp.int32(correct), epoch=epoch, epochs=epoch)

    def fit(
        self, adapter: Adapter, carried: Carried, settings: Settings, params: Params, support: Support
    ) -> tuple[Adapter, dict[str, float]]:
        """The best keys, with the better of the first and the searched alpha and beta."""
        cache = {"keys": jnp.asarray(carried.keys), "labels": jnp.asarray(carried.labels)}
        choice = evaluate(cache, settings.alpha[None], settings.beta[None], params, support)
        if settings.search and len(support.val_labels):
            choice = max(choice, search(cache, settings, params, support), key=lambda one: one.correct)
        learned, notes = choice.kept(cache, support)
        return learned, notes | {"epoch": int(carried.epoch)}
