"""Tip-Adapter: what the few training images look like is a cache, and an image is also what its neighbours there are.

Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification", ECCV 2022 (arXiv 2207.09519);
official code github.com/gaopengcuhk/Tip-Adapter at d0e2d6f. With f the unit feature of an image, t_c of the classes,
k_i the N keys (the unit mean feature of each training image over ten passes with random crops) and y_i their classes:

    logit_c = 100 f . t_c + alpha sum_{i: y_i = c} exp(-beta (1 - f . k_i))

Nothing is trained; alpha and beta are chosen on all validation images, from a grid whose ends are given for each data
set: beta = 0.1 + i (B - 0.1) / 200, i < 200; alpha = 0.1 + j (A - 0.1) / 20, j < 20; of the best the first, beta in the
outer loop. t_c is the unit mean of unit features, of ImageNet under seven templates. Kept are N = C S keys of d numbers
and two numbers.

Departures: the backbone's own logit scale (of OpenAI's CLIPs: 100) in place of the constant; float32 where the
official code has float16; the training images are CoOp's draw for each seed; classes with fewer than S images have
fewer keys (there: images twice). ImageNet's validation images are its test images, on which the official code searches:
here alpha and beta then stay those that it starts from.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dear_jax.clip.layers import Params, unit
from dear_jax.clip.split import Seen, logit_scale
from dear_jax.methods.contract import Adapter, Support, Wanted
from dear_jax.methods.fitted import Fitted

STEPS = (200, 20)  # of the grid's beta and alpha
LEAST = 0.1  # where both begin


class Settings(NamedTuple):
    """What variants may set apart without compiling again."""

    alpha: Float[Array, ""]  # weight of the cache, before the search
    beta: Float[Array, ""]  # how fast neighbours fade
    alpha_end: Float[Array, ""]  # of the grid, A
    beta_end: Float[Array, ""]  # B
    search: Float[Array, ""]  # 1: alpha and beta are chosen on validation images; 0: they are kept


@dataclasses.dataclass(frozen=True)
class TipAdapter(Fitted):
    """A cache of N keys."""

    passes: int = 10  # whose mean features are the keys; 0: one as in evaluation
    images: int = 0  # N

    @property
    def wanted(self) -> Wanted:
        """Training images with random crops, and all validation images."""
        return Wanted(self.passes)

    def sized(self, images: int) -> "TipAdapter":
        """The same for so many training images."""
        return dataclasses.replace(self, images=images)

    def settings_like(self) -> Settings:
        """Five numbers."""
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        return Settings(*[number] * 5)

    def learned_like(self, params: Params, classes: int, start: Any) -> dict[str, jax.ShapeDtypeStruct]:
        """keys `[N, d]`, labels `[N]`, alpha and beta."""
        number = jax.ShapeDtypeStruct((), jnp.float32)
        return {
            "keys": jax.ShapeDtypeStruct((self.images, self.split.config.embed_dim), jnp.float32),
            "labels": jax.ShapeDtypeStruct((self.images,), jnp.int32),
            "alpha": number,
            "beta": number,
        }

    def logits(
        self, adapter: Adapter, settings: Any, params: Params, classes: Float[Array, "C d"], seen: Seen
    ) -> Float[Array, "B N C"]:
        """Of the one path, with the alpha and beta that were chosen."""
        cache = cache_logits(seen.features, adapter["keys"], adapter["labels"], adapter["beta"], len(classes))
        return (logit_scale(params) * seen.features @ classes.T + adapter["alpha"] * cache)[:, None]

    def fit(
        self, adapter: Adapter, carried: Any, settings: Settings, params: Params, support: Support
    ) -> tuple[Adapter, dict[str, float]]:
        """The cache, alpha and beta."""
        cache = {"keys": unit(jnp.asarray(support.features)), "labels": jnp.asarray(support.labels)}
        first = evaluate(cache, settings.alpha[None], settings.beta[None], params, support)
        searches = bool(settings.search) and len(support.val_labels)
        return (search(cache, settings, params, support) if searches else first).kept(cache, support)


def cache_logits(
    features: Float[Array, "B d"],
    keys: Float[Array, "N d"],
    labels: Int[Array, "N"],
    beta: Float[Array, ""],
    classes: int,
) -> Float[Array, "B C"]:
    """sum over the keys of a class of exp(-beta (1 - f . k))."""
    nearness = jnp.exp(-beta * (1 - features @ keys.T))
    return nearness @ jax.nn.one_hot(labels, classes, dtype=nearness.dtype)


class Choice(NamedTuple):
    """An alpha and beta, and how many validation images are right by them."""

    alpha: Float[Array, ""]
    beta: Float[Array, ""]
    correct: int

    def kept(self, cache: Adapter, support: Support) -> tuple[Adapter, dict[str, float]]:
        """The cache with them, and numbers for the log."""
        count = len(support.val_labels)
        accuracy = {"validation_accuracy": 100 * self.correct / count} if count else {}
        notes = {"alpha": float(self.alpha), "beta": float(self.beta), **accuracy}
        return cache | {"alpha": self.alpha, "beta": self.beta}, notes


def search(cache: Adapter, settings: Settings, params: Params, support: Support) -> Choice:
    """The best of the whole grid."""
    alphas, betas = grid(settings.alpha_end, STEPS[1]), grid(settings.beta_end, STEPS[0])
    return evaluate(cache, alphas, betas, params, support)


def grid(end: Float[Array, ""], steps: int) -> Float[Array, "steps"]:
    """From 0.1 on, the end not included."""
    return LEAST + jnp.arange(steps, dtype=jnp.float32) * (end - LEAST) / steps


def evaluate(
    cache: Adapter, alphas: Float[Array, "alphas"], betas: Float[Array, "betas"], params: Params, support: Support
) -> Choice:
    """The first of the best, beta in the outer loop."""
    correct = count_correct(
        jnp.asarray(cache["keys"]),
        jnp.asarray(cache["labels"]),
        logit_scale(params) * jnp.asarray(support.text),
        unit(jnp.asarray(support.val_features)),
        jnp.asarray(support.val_labels),
        alphas,
        betas,
    )
    i, j = divmod(int(jnp.argmax(correct)), len(alphas))
    return Choice(alphas[j], betas[i], int(correct[i, j]))


@jax.jit
def count_correct(
    keys: Float[Array, "N d"],
    key_labels: Int[Array, "N"],
    text: Float[Array, "C d"],
    images: Float[Array, "M d"],
    labels: Int[Array, "M"],
    alphas: Float[Array, "alphas"],
    betas: Float[Array, "betas"],
) -> Int[Array, "betas alphas"]:
    """How many of M images each beta and alpha has right."""
    plain = images @ text.T

    def of_beta(beta: Float[Array, ""]) -> Int[Array, "alphas"]:
        cache = cache_logits(images, keys, key_labels, beta, len(text))
        return jax.lax.map(lambda alpha: jnp.sum(jnp.argmax(plain + alpha * cache, axis=-1) == labels), alphas)

    return jax.lax.map(of_beta, betas)
