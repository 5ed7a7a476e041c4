"""The text suffix over many prompts with learned tokens: what the prompts share is run once, the rest packed.

Under causal attention the beginning of text, the learned tokens and the words that all prompts share never see what
is a prompt's own. They are one short sequence whose keys and values serve every prompt. This equals
running each prompt whole (METHOD.md section 6), at the cost of the tokens in which the prompts differ.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dear_jax.clip import layers, text
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.clip.layers import Params, Tokens
from dear_jax.clip.packing import Packing, take_rows


class Shared(NamedTuple):
    """What the shared positions offer to every prompt's attention, per layer from the first suffix layer on."""

    keys: Float[Array, "L Z H Dh"]
    values: Float[Array, "L Z H Dh"]


def run_shared(
    params: Params, config: CLIPConfig, template: Float[Array, "R D"], tokens: Tokens, first_layer: int
) -> Shared:
    """Keys and values of the shared positions, Z = R + K_t: the learned tokens enter after the beginning of text.

    Args:
        params: the CLIP parameters.
        config: the architecture.
        template: the prefix's output at the R positions that all prompts share.
        tokens: the learned tokens and their mixing.
        first_layer: J, counted from 1.
    """
    stack = params["text_model"]["encoder"]["layers"]
    x = layers.insert_tokens(template[None], tokens.values, text.TOKEN_START)
    mask = text.causal_mask(x.shape[1])

    def layer(x: Array, number: Array) -> tuple[Array, Shared]:
        x = layers.mix_tokens(x, tokens, text.TOKEN_START)
        block = layers.block_of(config.text, stack, number, x.dtype)
        query, key, value = block.project(x)
        outputs, _ = layers.attention(query, key, value, mask)
        return block.finish(x, outputs), Shared(key[0], value[0])

    numbers = jnp.arange(first_layer, config.text.layers + 1)
    return jax.lax.scan(layers.recompute(layer, in_scan=True), x, numbers)[1]


def end_rows(
    params: Params,
    config: CLIPConfig,
    prefix: Float[Array, "C T D"],
    shared: Shared,
    packing: Packing,
    first_layer: int,
    shards: int = 1,
) -> Float[Array, "C D"]:
    """The last layer's output at each prompt's end of text, before the final LayerNorm.

    The chunks of the `shards` are run side by side. Those of a shard are run one after the other, and the backward pass
    runs each of them again: memory is that of one.
    """
    flat = prefix.reshape(-1, prefix.shape[-1])

    def run(chunk: Packing) -> Float[Array, "M D"]:
        x = jnp.take(flat, chunk.sources, axis=0, mode="fill", fill_value=0)
        return _run_chunk(params, config, x, shared, chunk, first_layer)

    chunks = packing._replace(order=jnp.arange(len(packing.ends)))  # the order is that of all chunks
    if len(packing.ends) == 1:
        ends = run(jax.tree.map(lambda leaf: leaf[0], chunks))
    elif len(packing.ends) == shards:
        ends = jax.vmap(run)(chunks)
    elif shards > 1:
        turns = jax.tree.map(lambda leaf: leaf.reshape(shards, -1, *leaf.shape[1:]).swapaxes(0, 1), chunks)
        ends = jax.lax.map(jax.checkpoint(jax.vmap(run), prevent_cse=False), turns).swapaxes(0, 1)
    else:
        ends = jax.lax.map(jax.checkpoint(run, prevent_cse=False), chunks)
    return jnp.take(ends.reshape(-1, ends.shape[-1]), packing.order, axis=0, unique_indices=True)


def _run_chunk(
    params: Params, config: CLIPConfig, x: Float[Array, "N D"], shared: Shared, chunk: Packing, first_layer: int
) -> Float[Array, "M D"]:
    stack, last = params["text_model"]["encoder"]["layers"], config.text.layers

    def layer(x: Array, number: Array) -> tuple[Array, None]:
        return _packed_layer(config.text, stack, x, shared, chunk, number, first_layer), None

    if first_layer < last:
        # By itself, because no gradient passes through what it makes of its input, which no adapter changes.
        first = layers.recompute(lambda x: layer(x, jnp.asarray(first_layer))[0])
        x = first(x)
        x, _ = jax.lax.scan(layers.recompute(layer, in_scan=True), x, jnp.arange(first_layer + 1, last))
    end = layers.recompute(lambda x: _last_layer(config.text, stack, x, shared, chunk))
    return cast(Array, end(x))


def _packed_layer(
    tower: TowerConfig,
    stack: Params,
    x: Float[Array, "N D"],
    shared: Shared,
    chunk: Packing,
    number: Array,
    first_layer: int,
) -> Float[Array, "N D"]:
    block = layers.block_of(tower, stack, number, x.dtype)
    query, key, value = (take_rows(part, chunk.rows, chunk.positions) for part in block.project(x))
    keys, values = shared.keys[number - first_layer], shared.values[number - first_layer]
    own_mask = text.causal_mask(chunk.rows.shape[1])[None]
    outputs = _attend(query, key, value, keys, values, own_mask)
    outputs = outputs.reshape(chunk.rows.size, *outputs.shape[2:])
    return block.finish(x, take_rows(outputs, chunk.positions, chunk.rows.reshape(-1)))


def _last_layer(
    tower: TowerConfig, stack: Params, x: Float[Array, "N D"], shared: Shared, chunk: Packing
) -> Float[Array, "M D"]:
    """Queries and MLP at the ends of text alone."""
    block = layers.block_of(tower, stack, tower.layers, x.dtype)

    def pick(rows: Array) -> Array:
        return take_rows(rows, chunk.ends, chunk.prompts)

    query, key, value = block.project(x, pick)
    key, value = (take_rows(part, chunk.rows, chunk.positions) for part in (key, value))
    own_mask = (chunk.rows < len(x))[:, None, None]  # not the gaps
    outputs = _attend(query[:, None], key, value, shared.keys[-1], shared.values[-1], own_mask)
    return block.finish(pick(x), outputs[:, 0])


def _attend(
    query: Float[Array, "M Q H Dh"],
    key: Float[Array, "M W H Dh"],
    value: Float[Array, "M W H Dh"],
    shared_keys: Float[Array, "Z H Dh"],
    shared_values: Float[Array, "Z H Dh"],
    own_mask: Array,
) -> Float[Array, "M Q H Dh"]:
    """One softmax over the shared keys, all of them open, and the own keys that `own_mask` `[#M, 1, Q, W]` opens."""
    query = query * query.shape[-1] ** -0.5
    own = jnp.einsum("mqhd,mkhd->mhqk", query, key, preferred_element_type=jnp.float32)
    own = jnp.where(own_mask, own, jnp.finfo(jnp.float32).min)
    common = jnp.einsum("mqhd,zhd->mhqz", query, shared_keys, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.concatenate([common, own], axis=-1), axis=-1).astype(value.dtype)
    length = len(shared_keys)
    outputs = jnp.einsum("mhqz,zhd->mqhd", weights[..., :length], shared_values)
    return outputs + jnp.einsum("mhqk,mkhd->mqhd", weights[..., length:], value)
