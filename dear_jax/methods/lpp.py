"""LP++: a linear classifier of images and, for each class, how much its name's features count.

Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024 (arXiv 2404.02285); official code
github.com/FereshteShakeri/FewShot-CLIP-Strong-Baseline at f81054f. With f the unit feature of an image and t_c of the
classes (of ImageNet under seven templates), without a logit scale:

    logit_c = w_c . f + b_c + a_c f . t_c

The cross-entropy over all N training images, each cropped once, is descended for 300 steps from w_c the SUM of the
class's features, b uniform in +-1/sqrt(d), and a = 250 mean_c mean_{i of c} f_i . t_c for all classes. w and b move by
gradient and momentum 0.9 at the rate 4 N / lambda_max(F^T F); after every tenth step a moves by the rate
N / (4 max_c sum_i (f_i . t_c)^2) times its gradient SUMMED UP since the beginning, which the official code never
clears. After which step is chosen on as many validation images as training images; of several the last. Learned are
C d + 2 C numbers.

Departures: float32 where the official code has float16; the training images are CoOp's draw for each seed, the
validation images drawn behind it; classes with fewer images than asked for have fewer (there: images twice). ImageNet's
validation images are training images that were not drawn, as there, but not cropped at random.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip.layers import Params, unit
from dear_jax.clip.split import Prompts, Seen
from dear_jax.data.class_set import SHOTS
from dear_jax.methods import initializers, losses
from dear_jax.methods.contract import Adapter, Support, Wanted
from dear_jax.methods.fitted import Fitted

MOMENTUM = 0.9
BLEND_EVERY = 10  # steps between two of a


class Settings(NamedTuple):
    """What variants may set apart without compiling again: times what follows from the training images."""

    rate: Float[Array, ""]  # of w and b
    blend_rate: Float[Array, ""]  # of a
    blend: Float[Array, ""]  # a at the beginning
    choose: Float[Array, ""]  # 1: the step is chosen on validation images; 0: the last


class Rates(NamedTuple):
    """What follows from the training images."""

    rate: Float[Array, ""]
    blend_rate: Float[Array, ""]
    blend: Float[Array, ""]


class Chosen(NamedTuple):
    """What is learned after the step that is chosen."""

    learned: Adapter
    step: Int[Array, ""]  # its number, from 1
    correct: Int[Array, ""]  # validation images that are right then


@dataclasses.dataclass(frozen=True)
class LPP(Fitted):
    """Weights, biases and blending weights."""

    iterations: int = 300

    @property
    def wanted(self) -> Wanted:
        """Each training image cropped once, and as many validation images."""
        return Wanted(1, SHOTS)

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """Only the bias starts without the images.

        Returns:
            weights `[C, d]`, bias `[C]`, blend `[C]`.
        """
        classes, width = prompts.features.shape
        bias = initializers.uniform(key, (classes,), width)
        return {"weights": jnp.zeros((classes, width)), "bias": bias, "blend": jnp.zeros(classes)}

    def settings_like(self) -> Settings:
        """Four numbers."""
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        return Settings(*[number] * 4)

    def logits(
        self, adapter: Adapter, settings: Any, params: Params, classes: Float[Array, "C d"], seen: Seen
    ) -> Float[Array, "B N C"]:
        """Of the one path."""
        return logits_of(adapter, seen.features, seen.features @ classes.T)[:, None]

    def fit(
        self, adapter: Adapter, carried: Any, settings: Settings, params: Params, support: Support
    ) -> tuple[Adapter, dict[str, float]]:
        """All steps."""
        features, labels = unit(jnp.asarray(support.features)), jnp.asarray(support.labels)
        text = jnp.asarray(support.text)
        found = rates_of(np.asarray(features), np.asarray(text), support.labels)
        factors = (settings.rate, settings.blend_rate, settings.blend)
        rates = Rates(*(factor * jnp.float32(rate) for factor, rate in zip(factors, found, strict=True)))
        of_class = jax.nn.one_hot(labels, len(text), dtype=features.dtype)
        fresh = {
            "weights": of_class.T @ features,
            "bias": jnp.asarray(adapter["bias"]),
            "blend": jnp.full(len(text), rates.blend),
        }
        validation = unit(jnp.asarray(support.val_features)), jnp.asarray(support.val_labels)
        best, values = descend(fresh, rates, (features, labels), validation, text, settings.choose, self.iterations)
        notes = {"step": float(best.step), "loss": float(values[-1])}
        if len(support.val_labels):
            notes["validation_accuracy"] = 100 * float(best.correct) / len(support.val_labels)
        return best.learned, notes


def logits_of(
    learned: Adapter, features: Float[Array, "n d"], similarity: Float[Array, "n C"]
) -> Float[Array, "n C"]:
    """Given the cosines of images and classes."""
    return features @ learned["weights"].T + learned["bias"][None] + learned["blend"][None] * similarity


def rates_of(
    features: Float[np.ndarray, "N d"], text: Float[np.ndarray, "C d"], labels: Int[np.ndarray, "N"]
) -> tuple[float, float, float]:
    """The rate of w and b, that of a, and where a begins, computed in float64."""
    features, text = features.astype(np.float64), text.astype(np.float64)
    similarity, count = features @ text.T, len(features)
    rate = 4 * count / np.linalg.eigvalsh(features.T @ features)[-1]
    blend_rate = count / (4 * np.square(similarity).sum(axis=0).max())
    own = similarity[np.arange(count), labels]
    of_classes = np.bincount(labels, own, len(text)) / np.bincount(labels, minlength=len(text))
    return float(rate), float(blend_rate), float(250 * of_classes.mean())


@functools.partial(jax.jit, static_argnames="iterations")
def descend(
    fresh: Adapter,
    rates: Rates,
    training: tuple[Array, Array],
    validation: tuple[Array, Array],
    text: Float[Array, "C d"],
    choose: Float[Array, ""],
    iterations: int,
) -> tuple[Chosen, Float[Array, "n"]]:
    """All steps: the chosen one, and the loss before each of them.

    Args:
        fresh: weights, bias and blend before the first.
        rates: see `rates_of`.
        training: unit features `[N, d]` and labels `[N]`.
        validation: the same of M images.
        text: unit features of the classes.
        choose: 1: the step with the most validation images right, of several the last; 0: the last.
        iterations: how many steps.
    """
    (features, labels), (val_features, val_labels) = training, validation
    similarity, val_similarity = features @ text.T, val_features @ text.T

    def loss(learned: Adapter) -> Float[Array, ""]:
        return losses.cross_entropy(logits_of(learned, features, similarity), labels)

    def step(carry: tuple[Adapter, Adapter, Chosen], number: Array) -> tuple[Any, Array]:
        learned, moving, best = carry
        value, gradient = jax.value_and_grad(loss)(learned)
        # Of w and b the momentum's running sum; of a the plain one, which moves it now and then.
        share = {"weights": MOMENTUM, "bias": MOMENTUM, "blend": 1.0}
        moving = {name: share[name] * moving[name] + leaf for name, leaf in gradient.items()}
        blend_rate = jnp.where(number % BLEND_EVERY == 0, rates.blend_rate, 0.0)
        rate = {"weights": rates.rate, "bias": rates.rate, "blend": blend_rate}
        learned = {name: leaf - rate[name] * moving[name] for name, leaf in learned.items()}
        predicted = jnp.argmax(logits_of(learned, val_features, val_similarity), axis=-1)
        correct = jnp.sum(predicted == val_labels, dtype=jnp.int32)
        now = Chosen(learned, number, correct)
        better = (correct >= best.correct) | (choose == 0)
        return (learned, moving, jax.tree.map(lambda a, b: jnp.where(better, a, b), now, best)), value

    none = jnp.zeros((), jnp.int32)
    first = (fresh, jax.tree.map(jnp.zeros_like, fresh), Chosen(fresh, none, none))
    (_, _, best), values = jax.lax.scan(step, first, jnp.arange(1, 1 + iterations, dtype=jnp.int32))
    return best, values
