"""CoCoOp: CoOp's tokens, moved for each image by what a small network makes of its feature.

Zhou, Yang, Loy & Liu, "Conditional Prompt Learning for Vision-Language Models", CVPR 2022 (arXiv 2203.05557); official
code github.com/KaiyangZhou/CoOp at ff61507. With v plain CLIP's unit feature of an image, its prompts are

    "[V_1 + p] ... [V_n + p] NAME .",   p = W2 relu(W1 v + b1) + b2,   hence t(v) = their unit text features
    loss = CE(100 v t(v)) over the batch

so that each image runs the text tower on all classes anew. Learned, for ViT-B/16 with n = 4: 4 * 512 + (512 * 32 +
32) + (32 * 512 + 512) = 35,360 numbers.

Departures: the backbone's own logit scale, not above 100; learned arrays are float32 (official: float16). There is no
published few-shot recipe; that of base-to-new is taken. Image features are plain CLIP's and text features belong to
one image each, so that nothing learned is left by which images could be retrieved.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip import text
from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts, Seen, logit_scale
from dear_jax.errors import UserError
from dear_jax.methods import learned_words, losses, meta_net
from dear_jax.methods.contract import Adapter, Method, Targets

REDUCTION = 16  # of the features' width, within the network


class Settings(NamedTuple):
    """There is nothing that variants may set apart without compiling again."""


@dataclasses.dataclass(frozen=True)
class CoCoOp(Method):
    """n tokens in the places of words, on a split whose text layer is 1; images are as CLIP sees them."""

    count: int = 4  # n
    words: str = "a photo of a"  # that they start as; empty: random

    @property
    def context(self) -> int:
        """All of the words."""
        return self.count

    def prompt(self, dataset: str, template: str) -> str:
        """The same for every data set."""
        return learned_words.template(self.words, self.count)

    def targets(self, dataset: str, ensemble: tuple[str, ...]) -> Targets:
        """Plain text features are not read: those that cost nothing."""
        return Targets((self.prompt(dataset, ""),))

    @property
    def reading(self) -> tuple[Any, ...]:
        """The words."""
        return (*super().reading, self.prompt("", ""))

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """The words, or random; the network random.

        Returns:
            context `[n, D]`, and the network's arrays (`meta_net.init`).
        """
        context_key, meta_key = jax.random.split(key)
        inputs, width = self.split.config.embed_dim, self.split.config.text.width
        ids = jnp.asarray(prompts.ids)[0, text.TOKEN_START : text.TOKEN_START + self.count]
        return {
            "context": learned_words.start(context_key, params, self.words, (self.count, width), ids),
            **meta_net.init(meta_key, inputs, max(1, inputs // REDUCTION), width),
        }

    def settings_like(self) -> Settings:
        """Nothing."""
        return Settings()

    def classes(self, adapter: Adapter, settings: Any, frozen: Frozen) -> Prompts:
        """Their prompts: what the text tower makes of them, only an image can say."""
        return frozen.prompts

    def features(self, adapter: Adapter, settings: Any, params: Params, seen: Seen) -> Float[Array, "B N d"]:
        """There are none.

        Raises:
            UserError: always.
        """
        raise UserError(
            "CoCoOp learns no features of images by which they could be retrieved: it leaves those of CLIP as they "
            "are, and makes the text features of the classes anew for each image. Retrieve with a run of another "
            "config.method."
        )

    def logits(
        self, adapter: Adapter, settings: Any, params: Params, classes: Prompts, seen: Seen
    ) -> Float[Array, "B N C"]:
        """Of the one path: each image with text features of its own.

        Images follow one another, so that memory is that of one; where they are spread over groups of devices, one of
        each group runs beside the others.
        """
        split, features = self.split, seen.features
        contexts = adapter["context"][None] + meta_net.run(adapter, features, jax.nn.relu)[:, None]

        def of_image(image: tuple[Float[Array, "K D"], Float[Array, "d"]]) -> Float[Array, "C"]:
            tokens = learned_words.behind_beginning(params, split.config, image[0])
            return split.read_prompts(params, classes, tokens, replace=True) @ image[1]

        count = len(features)
        groups = split.class_shards if count % split.class_shards == 0 else 1
        turns = jax.tree.map(
            lambda leaf: leaf.reshape(groups, -1, *leaf.shape[1:]).swapaxes(0, 1), (contexts, features)
        )
        if count == groups:
            cosines = jax.vmap(of_image)((contexts, features))
        else:
            found = jax.lax.map(jax.checkpoint(jax.vmap(of_image), prevent_cse=False), turns)
            cosines = found.swapaxes(0, 1).reshape(count, -1)
        return logit_scale(params) * cosines[:, None]

    def loss(
        self,
        adapter: Adapter,
        settings: Any,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The cross-entropy."""
        labelled = Seen(*(leaf[: len(labels)] for leaf in seen))
        classes = self.classes(adapter, settings, frozen)
        logits = self.logits(adapter, settings, frozen.params, classes, labelled)[:, 0]
        parts = losses.of_logits(logits, labels)
        return parts["cross_entropy"], parts
