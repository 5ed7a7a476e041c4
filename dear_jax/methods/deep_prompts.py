"""Prompts that enter the first blocks of both towers, each block with its own: what PromptSRC and MaPLe have in common.

    "a photo of a NAME." -> [start][p_1 .. p_K][what is left of the words][NAME][.][end]
    patches              -> [class][patches][v_1 .. v_N]

Before block 1 the text prompts take the places of the first K words and get their positions' embeddings; those of the
images stand behind the patches, get none, and pass the frozen LayerNorm with them. Before each block j = 2..depth what
the block before has left in their places gives way to the prompts of block j, as they are. From there on they go on.
"""

import abc
import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dear_jax.clip import layers, text, vision
from dear_jax.clip.layers import Params, Tokens, unit
from dear_jax.clip.split import Frozen, Prompts, Seen
from dear_jax.data.templates import A_PHOTO_OF_A
from dear_jax.methods import initializers
from dear_jax.methods.contract import Adapter, Method
from dear_jax.roles import decompose
from dear_jax.roles.decompose import ReadOut

WORDS = 4  # of "a photo of a", from which prompts can start
STD = 0.02  # of prompts that start from no word


@dataclasses.dataclass(frozen=True)
class DeepPrompts(Method):
    """One path: the cosines of image and text features, each of a tower with its prompts. Both are cut before block 1.

    The template is "a photo of a {}." whatever the data set's own; for more than its four words it is "X X ... X {}.".
    """

    @abc.abstractmethod
    def prompts(self, adapter: Adapter) -> tuple[Float[Array, "depth K D"], Float[Array, "deep N W"]]:
        """Of the text tower and of the vision tower."""

    @property
    def reading(self) -> tuple[Any, ...]:
        """The number of text prompts decides the template."""
        return (*super().reading, self.context)

    def prompt(self, dataset: str, template: str) -> str:
        """What the text tower reads."""
        return A_PHOTO_OF_A if self.context <= WORDS else f"{'X ' * self.context}{{}}."

    def classes(self, adapter: Adapter, settings: Any, frozen: Frozen) -> Float[Array, "C d"]:
        """Text features t, unit length."""
        params, values = frozen.params, self.prompts(adapter)[0]
        places = params["text_model"]["embeddings"]["position_embedding"]["embedding"]
        places = places[text.TOKEN_START : text.TOKEN_START + values.shape[1]].astype(jnp.float32)
        tokens = deep_tokens(values.at[0].add(places), self.split.config.text.layers)
        return self.split.read_prompts(params, frozen.prompts, tokens, replace=True)

    def features(self, adapter: Adapter, settings: Any, params: Params, seen: Seen) -> Float[Array, "B 1 d"]:
        """Image features v, unit length."""
        x = self.split.read_images(params, seen.prefix, self._image_tokens(adapter, params))
        return unit(vision.project(params, self.split.config, x[:, :1]))

    def read_out(self, adapter: Adapter, settings: Any, params: Params) -> ReadOut:
        """The class token, with the prompts behind the patches."""
        return decompose.plain(params)._replace(tokens=self._image_tokens(adapter, params))

    def _image_tokens(self, adapter: Adapter, params: Params) -> Tokens:
        tower, values = self.split.config.vision, self.prompts(adapter)[1]
        entering = layers.apply_norm(params["vision_model"]["pre_layrnorm"], values[0], tower.layer_norm_epsilon)
        return deep_tokens(values.at[0].set(entering), tower.layers)


def deep_tokens(values: Float[Array, "depth K D"], count: int) -> Tokens:
    """Those of the first blocks of a tower of `count`."""
    depth = len(values)
    filled = jnp.pad(values, ((0, count - depth), (0, 0), (0, 0)))
    return Tokens(filled, jnp.asarray(np.arange(count) < depth, jnp.float32))


def from_words(
    key: PRNGKeyArray, params: Params, prompts: Prompts, depth: int, count: int
) -> Float[Array, "depth count D"]:
    """Text prompts at the start: block 1's are the embeddings of the words in their places, if as many are words."""
    embedding = params["text_model"]["embeddings"]["token_embedding"]["embedding"]
    values = initializers.normal(key, (depth, count, embedding.shape[1]), STD)
    if count > WORDS:
        return values
    ids = prompts.ids[0, text.TOKEN_START : text.TOKEN_START + count]
    return values.at[0].set(jnp.take(embedding, ids, axis=0))
