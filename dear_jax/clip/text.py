"""CLIP's text tower: token ids in, features out. With learned tokens, `packed_text` runs it.

The tower is causal and read at the end-of-text token: positions after it change nothing, so that ids may be
cut to the longest prompt (methods/dear section 6).
"""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from dear_jax.clip import layers
from dear_jax.clip.config import LEGACY_EOS, CLIPConfig
from dear_jax.clip.layers import Params

TOKEN_START = 1  # learned tokens stand right after the beginning-of-text token


def end_positions(token_ids: Int[Array, "C T"], config: CLIPConfig) -> Int[Array, "C"]:
    """Position of each prompt's end-of-text token, found as transformers does."""
    if config.eos_token_id == LEGACY_EOS:
        return jnp.argmax(token_ids, axis=-1)
    return jnp.argmax(token_ids == config.eos_token_id, axis=-1)


def embed(
    params: Params, config: CLIPConfig, token_ids: Int[Array, "C T"], dtype: DTypeLike = jnp.float32
) -> Float[Array, "C T D"]:
    """Token ids to the input of layer 1. T is at most the context length."""
    length = token_ids.shape[1]
    if length > config.context_length:
        raise ValueError(f"expected at most {config.context_length} tokens, got {length}")
    embeddings = params["text_model"]["embeddings"]
    x = jnp.take(embeddings["token_embedding"]["embedding"], token_ids, axis=0).astype(dtype)
    return x + embeddings["position_embedding"]["embedding"][:length].astype(dtype)[None]


def embed_at(
    params: Params,
    config: CLIPConfig,
    token_ids: Int[Array, "C T"],
    sources: Int[Array, "*rows"],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "*rows D"]:
    """The same at flat positions in [C * T]; what stands at a position out of range means nothing."""
    embeddings = params["text_model"]["embeddings"]
    ids = jnp.take(token_ids.reshape(-1), sources, mode="fill", fill_value=0)
    x = jnp.take(embeddings["token_embedding"]["embedding"], ids, axis=0).astype(dtype)
    places = embeddings["position_embedding"]["embedding"].astype(dtype)
    return x + jnp.take(places, sources % token_ids.shape[1], axis=0)


def project(
    params: Params, config: CLIPConfig, x: Float[Array, "C T D"], positions: Int[Array, "C"]
) -> Float[Array, "C d"]:
    """The output at the end-of-text positions to the joint space, in float32."""
    return project_ends(params, config, jnp.take_along_axis(x, positions[:, None, None], axis=1)[:, 0])


def project_ends(params: Params, config: CLIPConfig, read: Float[Array, "C D"]) -> Float[Array, "C d"]:
    """The same of the rows already read."""
    norm = params["text_model"]["final_layer_norm"]
    read = layers.apply_norm(norm, read, config.text.layer_norm_epsilon)
    return read @ params["text_projection"]["kernel"].astype(jnp.float32)


def encode(
    params: Params, config: CLIPConfig, token_ids: Int[Array, "C T"], dtype: DTypeLike = jnp.float32
) -> Float[Array, "C d"]:
    """Plain CLIP text features, not L2-normalised (`CLIPModel.get_text_features`)."""
    x = embed(params, config, token_ids, dtype)
    x = layers.run_blocks(config.text, params["text_model"]["encoder"]["layers"], x, causal_mask(x.shape[1]))
    return project(params, config, x, end_positions(token_ids, config))


def causal_mask(length: int) -> Array:
    """`[1, T, T]`: every position sees itself and those before it."""
    return jnp.tril(jnp.ones((1, length, length), bool))
