"""PromptSRC: deep prompts of both towers, held near plain CLIP, and averaged over the epochs.

Khattak et al., "Self-regulating Prompts: Foundational Model Adaptation without Forgetting", ICCV 2023
(arXiv 2307.06948); official code github.com/muzairkhattak/PromptSRC at bb95c77. The prompts of both towers are
independent (see `deep_prompts`). With t, v their unit features and t0, v0 plain CLIP's, of the same augmented image,

    loss = CE(100 v t) + 25 mean|t - t0| + 10 mean|v - v0| + sum q0 (log q0 - log q) / (B C)
    q = softmax(100 v t),  q0 = softmax(100 v0 t0)

where means are over all components, and t0 is the unit mean of plain CLIP's features under 60 templates, as they come:
not of unit length. Learned are sum_e w_e (prompts after epoch e), w_e = N(e; mu, sigma) normalised over the epochs.
Text prompts of block 1 start from the words "a photo of a", all others at random. Numbers, for ViT-B/16, 4 + 4 prompts
and depth 9: 9 * (4 * 512 + 4 * 768) = 46,080; depth 3: 15,360.

Departures: only the prompts are averaged (the official code averages all of CLIP in float16, whose rounding moves
frozen weights by 1e-3); towers are in `config.compute.dtype`, prompts and losses in float32 where it has float16. A run
that `config.train.steps` ends within an epoch counts this one, too.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts, Seen
from dear_jax.data.templates import IMAGENET_60
from dear_jax.methods import deep_prompts, initializers, losses, paths
from dear_jax.methods.contract import Adapter, Length, Targets
from dear_jax.methods.deep_prompts import DeepPrompts


class Settings(NamedTuple):
    """What variants may set apart without compiling again."""

    text_weight: Float[Array, ""]  # of the distance of text features, 25
    image_weight: Float[Array, ""]  # of that of image features, 10
    logit_weight: Float[Array, ""]  # of the divergence of predictions, 1


@dataclasses.dataclass(frozen=True)
class PromptSRC(DeepPrompts):
    """Prompts in the first blocks of both towers, and their average over the epochs."""

    text_count: int = 4  # K
    vision_count: int = 4  # N
    text_depth: int = 9
    vision_depth: int = 9
    diverse_text: bool = True  # t0 is of the 60 templates, else of the run's
    average: bool = True  # over the epochs, else what the last one has left
    average_mean: float = 15.0  # mu, an epoch counted from 1
    average_std: float = 1.0  # sigma, epochs

    @property
    def context(self) -> int:
        """K words are replaced."""
        return self.text_count

    @property
    def reading(self) -> tuple[Any, ...]:
        """Both kinds of t0 differ."""
        return (*super().reading, self.diverse_text)

    def targets(self, dataset: str, ensemble: tuple[str, ...]) -> Targets:
        """Those of t0."""
        return Targets(IMAGENET_60 if self.diverse_text else ensemble, unit_mean=False)

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """A fresh adapter.

        Returns:
            text `[depth, K, D]` and vision `[depth, N, W]`.
        """
        text_key, vision_key = jax.random.split(key)
        shape = (self.vision_depth, self.vision_count, self.split.config.vision.width)
        return {
            "text": deep_prompts.from_words(text_key, params, prompts, self.text_depth, self.text_count),
            "vision": initializers.normal(vision_key, shape, deep_prompts.STD),
        }

    def settings_like(self) -> Settings:
        """Three numbers."""
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        return Settings(number, number, number)

    def prompts(self, adapter: Adapter) -> tuple[Float[Array, "depth K D"], Float[Array, "deep N W"]]:
        """What is learned."""
        return adapter["text"], adapter["vision"]

    def loss(
        self,
        adapter: Adapter,
        settings: Any,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Cross-entropy, and the distances to plain CLIP of features and predictions."""
        plain, plain_classes = seen.features[: len(labels), None], frozen.prompts.features
        classes = self.classes(adapter, settings, frozen)
        features = self.features(adapter, settings, frozen.params, seen)[: len(labels)]
        logits = paths.cosine_logits(features, classes, frozen.params)[:, 0]
        plain_logits = paths.cosine_logits(plain, plain_classes, frozen.params)[:, 0]
        parts = losses.of_logits(logits, labels) | {
            "text_distance": losses.absolute_distance(classes, plain_classes),
            "image_distance": losses.absolute_distance(features[:, 0], plain[:, 0]),
            "divergence": losses.divergence(logits, plain_logits),
        }
        total = parts["cross_entropy"] + settings.text_weight * parts["text_distance"]
        total = total + settings.image_weight * parts["image_distance"]
        return total + settings.logit_weight * parts["divergence"], parts

    def begin(self, adapter: Adapter, key: PRNGKeyArray) -> Any:
        """The sum so far."""
        return jax.tree.map(jnp.zeros_like, adapter) if self.average else ()

    def carry(self, carried: Any, adapter: Adapter, step: Int[Array, ""], length: Length) -> Any:
        """At the end of an epoch its prompts are added by its weight."""
        if not self.average:
            return carried
        ends = (step % length.steps_per_epoch == 0) | (step == length.steps)
        weights = jnp.asarray(epoch_weights(length.epochs, self.average_mean, self.average_std))
        weight = jnp.where(ends, weights[(step - 1) // length.steps_per_epoch], 0.0)
        return jax.tree.map(lambda total, leaf: total + weight * leaf, carried, adapter)

    def finish(self, adapter: Adapter, carried: Any) -> Adapter:
        """The average."""
        return carried if self.average else adapter


def epoch_weights(epochs: int, mean: float, std: float) -> Float[np.ndarray, "epochs"]:
    """Of epochs 1, 2, ...: a Gaussian density, normalised to sum 1."""
    exponents = -0.5 * ((np.arange(1, epochs + 1) - mean) / std) ** 2
    # Far from the mean all densities may be 0 in floating point: their ratios are not.
    densities = np.exp(exponents - exponents.max())
    return (densities / densities.sum()).astype(np.float32)
