"""CoOp: learned vectors in the places of the prompt's words.

Zhou, Yang, Loy & Liu, "Learning to Prompt for Vision-Language Models", IJCV 2022 (arXiv 2109.01134); official code
github.com/KaiyangZhou/CoOp at ff61507. Of the prompt "[V]_1 ... [V]_n NAME ." the n vectors are learned, and nothing
else; they are the same for all classes, or (class-specific) each class has its own:

    loss = CE(100 v t),  v = plain CLIP's unit feature of the image, t = unit text feature of the prompt

The class name may also stand in the middle or in front of them. They start as the embeddings of words, or random.
Learned: n * 512 numbers for ViT-B/16, class-specific C times as many: 2,048 for 4, 8,192 for 16.

Departures: the backbone's own logit scale, not above 100; the context is float32 (official: float16, in which most of
the warm-up's updates round to nothing). The official code ignores that contexts are to be class-specific where they
start as words; here each class has its own, which starts as the words. In the middle or front it takes the name for
the first so many tokens of "X X X X NAME." as the name alone has; here the name is put there before tokens are made:
the same, but for a name that ends in a sign which the full stop would join.
"""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip import text
from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, OwnTokens, Prompts, Seen
from dear_jax.methods import learned_words, losses
from dear_jax.methods.contract import Adapter, Method, Targets
from dear_jax.roles import decompose
from dear_jax.roles.decompose import ReadOut


class Settings(NamedTuple):
    """There is nothing that variants may set apart without compiling again."""


@dataclasses.dataclass(frozen=True)
class CoOp(Method):
    """n tokens in the places of words, on a split whose text layer is 1; images are as CLIP sees them."""

    count: int = 4  # n
    words: str = "a photo of a"  # that they start as; empty: random
    position: str = learned_words.END  # of the class name, one of learned_words.POSITIONS
    class_specific: bool = False

    @property
    def open_classes(self) -> bool:
        """A class that was not trained on has no context of its own."""
        return not self.class_specific

    @property
    def context(self) -> int:
        """All of the words."""
        return self.count

    def prompt(self, dataset: str, template: str) -> str:
        """The same for every data set."""
        return learned_words.template(self.words, self.count, self.position)

    def targets(self, dataset: str, ensemble: tuple[str, ...]) -> Targets:
        """Plain text features are not read: those that cost nothing."""
        return Targets((self.prompt(dataset, ""),))

    @property
    def reading(self) -> tuple[Any, ...]:
        """The words, and where they stand."""
        return (*super().reading, self.prompt("", ""), self._shared)

    @property
    def _shared(self) -> bool:
        """Whether all prompts begin with the same learned tokens."""
        return self.position == learned_words.END and not self.class_specific

    def encode_prompts(self, params: Params, token_ids: Int[np.ndarray, "C T"]) -> Prompts:
        """With the places of each prompt's own tokens, unless they are alike in all."""
        if self._shared:
            return self.split.encode_prompts(params, token_ids)
        places = learned_words.places(self.split.ends(token_ids), self.count, self.position)
        return self.split.encode_prompts(params, token_ids, np.asarray(places))

    def _places(self, ids: Int[Array, "C T"]) -> Int[Array, "C K"]:
        return jnp.asarray(learned_words.places(text.end_positions(ids, self.split.config), self.count, self.position))

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """The words, or random.

        Returns:
            context `[n, D]`, class-specific `[C, n, D]`.
        """
        ids = jnp.asarray(prompts.ids)
        each = (len(ids),) if self.class_specific else ()
        shape = (*each, self.count, self.split.config.text.width)
        return {"context": learned_words.start(key, params, self.words, shape, ids[0][self._places(ids)[0]])}

    def settings_like(self) -> Settings:
        """Nothing."""
        return Settings()

    def classes(self, adapter: Adapter, settings: Any, frozen: Frozen) -> Float[Array, "C d"]:
        """Text features t, unit length."""
        params, prompts, learned = frozen.params, frozen.prompts, adapter["context"]
        if self._shared:
            tokens = learned_words.behind_beginning(params, self.split.config, learned)
            return self.split.read_prompts(params, prompts, tokens, replace=True)
        places = self._places(prompts.ids)
        values = learned_words.at(params, jnp.broadcast_to(learned, (*places.shape, learned.shape[-1])), places)
        return self.split.read_prompts(params, prompts, own=[OwnTokens(values, 1)])

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
        """The cross-entropy."""
        classes = self.classes(adapter, settings, frozen)
        logits = self.logits(adapter, settings, frozen.params, classes, seen)[: len(labels), 0]
        parts = losses.of_logits(logits, labels)
        return parts["cross_entropy"], parts
