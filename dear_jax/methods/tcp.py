"""TCP: learned tokens in the places of words, replaced in a deep layer by tokens made of each class's own features.

Yao, Zhang & Xu, "TCP: Textual-based Class-aware Prompt tuning for Visual-Language Model", CVPR 2024 (arXiv
2311.18231); official code github.com/htyao89/Textual-based_Class-aware_prompt_tuning at bd97bec. The prompt
"[V]_1 ... [V]_n NAME ..." enters as CoOp's; with t0 plain CLIP's unit text features of the classes, before layer J of
the text tower the n places of class c hold

    T_c = W2 quick_gelu(W1 t0_c + b1) + b2,  as [n, D], whatever the layer before has left there

    loss = CE(100 v t) + reg (1 - cos(t, t0)),   v = plain CLIP's unit feature of the image

J is 9 of 12, two thirds of the depth and one. Learned, for ViT-B/16 with n = 4: 4 * 512 + (512 * 128 + 128) +
(128 * 2048 + 2048) = 331,904 numbers.

Departures: the backbone's own logit scale, not above 100; towers in `config.compute.dtype`, learned arrays float32
(official: float16, for which Adam's epsilon is 1e-3, here too). The prompts of UCF101 and ImageNet have an X where the
official ones have words, which are replaced all the same. Data sets that the paper does not have take "X X X X NAME."
as their prompt and their own template for t0. The official script tests SUN397 and ImageNet after 25 epochs, of a
configuration that trains 50: here all take 50 (`config.train.epochs`).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip import layers, text
from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, OwnTokens, Prompts, Seen
from dear_jax.methods import initializers, learned_words, losses, meta_net
from dear_jax.methods.contract import Adapter, Method, Targets
from dear_jax.roles import decompose
from dear_jax.roles.decompose import ReadOut

REDUCTION = 4  # of the features' width, within the network
# Of the prompts: what follows the learned tokens.
ENDINGS = {
    "oxford_pets": "{}, a type of pet.",
    "oxford_flowers": "{}, a type of flower.",
    "fgvc_aircraft": "{}, a type of aircraft.",
    "dtd": "{} texture.",
    "stanford_cars": "{}, a type of car",
    "food101": "{}, a type of food.",
    "ucf101": "person doing {}.",
}
# Of t0, where it is not the data set's own template.
TARGETS = {
    "fgvc_aircraft": "a photo of an aircraft {}.",
    "dtd": "a photo of a {}, a type of texture.",
    "food101": "a photo of a {}, a type of food.",
}


class Settings(NamedTuple):
    """What variants may set apart without compiling again."""

    reg_weight: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class TCP(Method):
    """n tokens in the places of words, on a split whose text layer is 1; images are as CLIP sees them."""

    count: int = 4  # n
    layer: int = 9  # J, counted from 1

    @property
    def context(self) -> int:
        """All of the X."""
        return self.count

    def prompt(self, dataset: str, template: str) -> str:
        """A table by data set."""
        return " ".join(["X"] * self.count + [ENDINGS.get(dataset, "{}.")])

    def targets(self, dataset: str, ensemble: tuple[str, ...]) -> Targets:
        """Another one."""
        return Targets((TARGETS[dataset],)) if dataset in TARGETS else Targets(ensemble)

    @property
    def reading(self) -> tuple[Any, ...]:
        """The number of words."""
        return (*super().reading, self.count)

    def encode_prompts(self, params: Params, token_ids: Int[np.ndarray, "C T"]) -> Prompts:
        """The places of the tokens are each prompt's own, as from layer J on its tokens are."""
        places = text.TOKEN_START + np.arange(self.count, dtype=np.int32)
        return self.split.encode_prompts(params, token_ids, np.tile(places, (len(token_ids), 1)))

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """Random.

        Returns:
            context `[n, D]`, and the network's arrays (`meta_net.init`).
        """
        context_key, meta_key = jax.random.split(key)
        inputs, width = self.split.config.embed_dim, self.split.config.text.width
        return {
            "context": initializers.normal(context_key, (self.count, width), learned_words.STD),
            **meta_net.init(meta_key, inputs, max(1, inputs // REDUCTION), self.count * width),
        }

    def settings_like(self) -> Settings:
        """A number."""
        number: Any = jax.ShapeDtypeStruct((), jnp.float32)
        return Settings(number)

    def classes(self, adapter: Adapter, settings: Any, frozen: Frozen) -> Float[Array, "C d"]:
        """Text features t, unit length."""
        params, prompts = frozen.params, frozen.prompts
        tokens = meta_net.run(adapter, prompts.features, lambda x: layers.activate(x, "quick_gelu"))
        own = tokens.reshape(-1, *adapter["context"].shape)
        places = text.TOKEN_START + jnp.arange(self.count)
        common = jnp.broadcast_to(learned_words.at(params, adapter["context"], places), own.shape)
        return self.split.read_prompts(params, prompts, own=[OwnTokens(common, 1), OwnTokens(own, self.layer)])

    def features(self, adapter: Adapter, settings: Any, params: Params, seen: Seen) -> Float[Array, "B N d"]:
        """Plain CLIP's."""
        return seen.features[:, None]

    def read_out(self, adapter: Adapter, settings: Any, params: Params) -> ReadOut:
        """Plain CLIP's."""
        return decompose.plain(params)

    def loss(
        self,
        adapter: Adapter,
        settings: Any,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The cross-entropy, and the distance of the text features to plain CLIP's."""
        classes = self.classes(adapter, settings, frozen)
        logits = self.logits(adapter, settings, frozen.params, classes, seen)[: len(labels), 0]
        parts = losses.of_logits(logits, labels)
        parts["regularization"] = losses.cosine_distance(classes, frozen.prompts.features)
        return parts["cross_entropy"] + settings.reg_weight * parts["regularization"], parts
