"""CLIP-LoRA: additions of low rank to what makes queries, keys and values in all layers of both towers.

Zanella & Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR Workshops 2024 (arXiv 2405.18541);
official code github.com/MaxZanella/CLIP-LoRA at 358f0d7. Each of the three projections W x + bias of a layer becomes

    W x + bias + alpha / sqrt(r) * B A dropout(x)
    loss = CE(100 v t),   v = unit(image features),  t = unit(text features)

with A of r rows, uniform within +-1/sqrt(D), and B = 0 at the start, which is zero-shot CLIP. The rank is divided by as
a root, which is what the official code does where its paper has alpha / r. Inputs are dropped in training, anew at each
step, for queries, keys and values independently. Learned, for towers of L layers: 6 L r (D_vision + D_text) numbers;
for ViT-B/16 with r = 2: 6 * 12 * 2 * (768 + 512) = 184,320.

Departures: the backbone's own logit scale (of OpenAI's CLIPs: 100) in place of the constant; towers in
`config.compute.dtype` where the official code has float16 under autocast with a scaled loss; an epoch's last batch is
dropped where it is not whole; the shots of a seed are CoOp's, not the official code's own draw. All prompts begin alike
("a photo of a"), and that beginning is run once for all classes (clip/packed_text): its inputs are dropped once in a
step for all classes, where the official code drops them for each class by itself; what is a prompt's own is dropped by
itself here, too. Of the last vision layer the class token's query alone is computed. The official code also has
additions to the output projection, and layers that have none; its paper uses neither. Without dropout its gradients are
wrong (it subtracts the additions from the weights before the backward pass); these are not.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from dear_jax.clip import vision
from dear_jax.clip.layers import LOW_RANK, Params, unit
from dear_jax.clip.split import Frozen, Prompts, Seen
from dear_jax.methods import initializers, losses, paths
from dear_jax.methods.contract import Adapter, Length, Method, Targets
from dear_jax.roles import decompose
from dear_jax.roles.decompose import ReadOut

TOWERS = ("vision", "text")
ENCODERS = ("both", *TOWERS)
PROJECTIONS = "qkv"
TEMPLATE = "a photo of a {}."  # of all data sets


class Settings(NamedTuple):
    """What variants may set apart without compiling again."""

    scale: Float[Array, ""]  # alpha / sqrt(rank)
    dropout: Float[Array, ""]  # share of the inputs that training drops


class Noise(NamedTuple):
    """What training carries along."""

    bits: UInt32[Array, "bits"]  # of the next step


@dataclasses.dataclass(frozen=True)
class CLIPLoRA(Method):
    """Two thin matrices for each projection of each layer. A tower without additions is cut before its last layer."""

    rank: int = 2
    projections: str = PROJECTIONS  # those of q, k, v that have additions
    encoders: str = "both"  # both, vision or text
    template: str = TEMPLATE  # empty: the data set's own

    def prompt(self, dataset: str, template: str) -> str:
        """One for all data sets."""
        return self.template or template

    def targets(self, dataset: str, templates: tuple[str, ...]) -> Targets:
        """The same: these are the classes where the text tower has no additions."""
        return Targets((self.template,) if self.template else templates)

    @property
    def reading(self) -> tuple[Any, ...]:
        """With the template."""
        return (*super().reading, self.template)

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """A at random, B at 0.

        Returns:
            vision_a `[L, n, r, D]`, vision_b `[L, n, D, r]`, for the L layers and the n projections of the tower; and
            text_a, text_b.
        """
        learned = {}
        for tower, own in zip(TOWERS, jax.random.split(key, len(TOWERS)), strict=True):
            if self.encoders in ("both", tower):
                config = getattr(self.split.config, tower)
                shape = (config.layers, len(self.projections))
                learned[f"{tower}_a"] = initializers.uniform(own, (*shape, self.rank, config.width), config.width)
                learned[f"{tower}_b"] = jnp.zeros((*shape, config.width, self.rank))
        return learned

    def settings_like(self) -> Settings:
        """Two numbers."""
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        return Settings(number, number)

    def begin(self, adapter: Adapter, key: PRNGKeyArray) -> Noise:
        """The random bits of the first step, of the run's seed alone: variants of a seed drop alike."""
        return Noise(jax.random.key_data(key))

    def carry(self, carried: Noise, adapter: Adapter, step: Int[Array, ""], length: Length) -> Noise:
        """Others for the next step."""
        return Noise(jax.random.key_data(jax.random.fold_in(jax.random.wrap_key_data(carried.bits), step)))

    def _add(self, tower: str, adapter: Adapter, settings: Any, params: Params, noise: Noise | None) -> Params:
        """The parameters with the additions of a tower, which drop inputs where there is noise."""
        a, b = adapter[f"{tower}_a"], settings.scale * adapter[f"{tower}_b"]
        chosen = jnp.asarray([PROJECTIONS.index(name) for name in self.projections])
        additions = {
            name: jnp.zeros((len(leaf), len(PROJECTIONS), *leaf.shape[2:])).at[:, chosen].set(leaf)
            for name, leaf in (("a", a), ("b", b))
        }
        if noise is not None:
            key = jax.random.fold_in(jax.random.wrap_key_data(noise.bits), TOWERS.index(tower))
            additions["bits"] = jax.random.key_data(jax.random.split(key, len(a)))
            additions["dropout"] = jnp.full(len(a), settings.dropout)
        model = params[f"{tower}_model"]
        stack = model["encoder"]["layers"]
        stack = stack | {"self_attn": stack["self_attn"] | {LOW_RANK: additions}}
        return params | {f"{tower}_model": model | {"encoder": model["encoder"] | {"layers": stack}}}

    def classes(
        self, adapter: Adapter, settings: Any, frozen: Frozen, noise: Noise | None = None
    ) -> Float[Array, "C d"]:
        """Text features t, unit length."""
        if self.encoders == "vision":
            return frozen.prompts.features
        return self.split.read_prompts(
            self._add("text", adapter, settings, frozen.params, noise), frozen.prompts
        )

    def features(
        self, adapter: Adapter, settings: Any, params: Params, seen: Seen, noise: Noise | None = None
    ) -> Float[Array, "B N d"]:
        """Image features v."""
        if self.encoders == "text":
            return seen.features[:, None]
        x = self.split.read_images(self._add("vision", adapter, settings, params, noise), seen.prefix)
        return unit(vision.project(params, self.split.config, x[:, :1]))

    def read_out(self, adapter: Adapter, settings: Any, params: Params) -> ReadOut:
        """Plain CLIP's, of the parameters with the additions."""
        return decompose.plain(
            params if self.encoders == "text" else self._add("vision", adapter, settings, params, None)
        )

    def loss(
        self,
        adapter: Adapter,
        settings: Any,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The cross-entropy. Inputs are dropped as `carried` says; without it none are."""
        noise = carried or None
        classes = self.classes(adapter, settings, frozen, noise)
        features = self.features(adapter, settings, frozen.params, seen, noise)[: len(labels)]
        logits = paths.cosine_logits(features, classes, frozen.params)[:, 0]
        parts = losses.of_logits(logits, labels)
        return parts["cross_entropy"], parts
