"""Learned tokens in the places of a prompt's words, which enter the text tower as words do: a context, as CoOp has it.

The prompt is written with the words in whose places they come (`template`); where these stand follows from its end of
text alone (`places`). They have the embeddings of their positions, as words have.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip import text
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params, Tokens
from dear_jax.methods import initializers

END, MIDDLE, FRONT = "end", "middle", "front"
POSITIONS = (END, MIDDLE, FRONT)  # of the class name
STD = 0.02  # of a random start


def template(words: str, count: int, position: str = END) -> str:
    """The words around {} for the class name, or `count` times X: "X X {} X X ." where the name is in the middle."""
    context, first = words.split() or ["X"] * count, _before(count, position)
    before, behind = context[:first], context[first:]
    # The full stop is a token of its own either way. Behind words it stands apart, so that they can be counted.
    return " ".join([*before, "{}", *behind, "."]) if behind else " ".join([*before, "{}."])


def _before(count: int, position: str) -> int:
    """How many of the tokens stand before the class name."""
    return {END: count, MIDDLE: count // 2, FRONT: 0}[position]


def places(ends: Array | np.ndarray, count: int, position: str) -> Array | np.ndarray:
    """Where they stand `[C, K]`, given each prompt's end of text `[C]`: at its beginning, and before its full stop."""
    index, first = np.arange(count, dtype=np.int32), _before(count, position)
    is_before = np.asarray(index < first, np.int32)[None]
    return is_before * (1 + index)[None] + (1 - is_before) * (ends[:, None] - 1 - count + index[None])


def start(
    key: PRNGKeyArray,
    params: Params,
    words: str,
    shape: tuple[int, ...],
    ids: Int[Array, "K"] | Int[np.ndarray, "K"],
) -> Float[Array, "*shape"]:
    """The embeddings of the words, whose ids are given, or random where there are none; `shape` ends in `[K, D]`."""
    if not words:
        return initializers.normal(key, shape, STD)
    table = jnp.asarray(params["text_model"]["embeddings"]["token_embedding"]["embedding"], jnp.float32)
    return jnp.broadcast_to(jnp.take(table, jnp.asarray(ids), axis=0), shape)


def at(params: Params, values: Float[Array, "*B K D"], places: Int[Array, "*B K"]) -> Float[Array, "*B K D"]:
    """The tokens with the embeddings of their positions."""
    table = params["text_model"]["embeddings"]["position_embedding"]["embedding"]
    return values + jnp.take(table, places, axis=0).astype(values.dtype)


def behind_beginning(params: Params, config: CLIPConfig, values: Float[Array, "K D"]) -> Tokens:
    """They stand where all prompts begin, enter once, and go on from layer to layer as words do."""
    positions = text.TOKEN_START + jnp.arange(len(values))
    return Tokens(at(params, values, positions)[None], jnp.zeros(config.text.layers).at[0].set(1))
