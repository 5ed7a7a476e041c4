"""The text tower over many prompts: what the prompts share is run once, the rest packed (`packing`).

Under causal attention the beginning of text, the learned tokens and the words that all prompts share never see what
is a prompt's own. They are one short sequence whose keys and values serve every prompt. This equals
running each prompt whole (methods/dear section 6), at the cost of the tokens in which the prompts differ.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dear_jax.clip import layers, text
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.clip.layers import Params, Tokens
from dear_jax.clip.packing import Packing, attention_mask, take_rows


class Own(NamedTuple):
    """Learned tokens of each prompt's own, which take the places of what a layer has left in some rows."""

    rows: Int[Array, "G R"]  # flat place in [C * K] of each row's token; out of range: it has none
    values: dict[int, Float[Array, "C K D"]]  # by the number of the layer that they enter


class Shared(NamedTuple):
    """What the shared positions offer to every prompt's attention, per layer from the first that ran on."""

    keys: Float[Array, "L Z H Dh"]
    values: Float[Array, "L Z H Dh"]


def run_shared(
    params: Params,
    config: CLIPConfig,
    x: Float[Array, "shared D"],
    first: int,
    last: int,
    tokens: Tokens | None = None,
    replace: bool = False,
) -> tuple[Float[Array, "Z D"], Shared]:
    """The shared positions through layers first..last, counted from 1.

    Args:
        params: the CLIP parameters.
        config: the architecture.
        x: input of layer `first` at the positions that all prompts share.
        first: layer before which the learned tokens enter, after the beginning of text.
        last: may be `first - 1`: no layer.
        tokens: K_t learned tokens, which with the shared positions make Z; none: these alone.
        replace: they take the places of the words after the beginning of text, and Z is the shared positions alone.

    Raises:
        ValueError: fewer positions are shared than tokens are to replace.

    Returns:
        The output of layer `last`; keys and values of each layer.
    """
    if tokens is not None:
        tokens.check(last - first + 1)
        if not replace:
            x = layers.insert_tokens(x[None], tokens.at(0)[0], text.TOKEN_START)[0]
        elif len(x) < text.TOKEN_START + tokens.length:
            raise ValueError(f"{tokens.length} tokens are to replace words, but {len(x)} positions are shared")
    mask = text.causal_mask(len(x))
    stack = layers.draw_apart(params["text_model"]["encoder"]["layers"], jnp.arange(len(x))[None])

    def layer(x: Array, number: Array) -> tuple[Array, Shared]:
        if tokens is not None:
            x = layers.mix_tokens(x, tokens, text.TOKEN_START, number - first)
        block = layers.block_of(config.text, stack, number, x.dtype)
        query, key, value = block.project(x)
        outputs, _ = layers.attention(query, key, value, mask)
        return block.finish(x, outputs), Shared(key[0], value[0])

    x, shared = jax.lax.scan(layers.recompute(layer, in_scan=True), x[None], jnp.arange(first, last + 1))
    return x[0], shared


def run_rows(
    params: Params,
    config: CLIPConfig,
    x: Float[Array, "G R D"],
    shared: Shared,
    packing: Packing,
    first: int,
    last: int,
) -> Float[Array, "G R D"]:
    """Packed rows through layers first..last of plain CLIP, one chunk after the other. No gradient is expected."""
    if last < first:
        return x
    stack = params["text_model"]["encoder"]["layers"]

    def run(chunk: tuple[Array, Array]) -> Array:
        mask = attention_mask(chunk[1])

        def layer(x: Array, number: Array) -> tuple[Array, None]:
            return _layer(config.text, stack, x, _at(shared, number - first), mask, number), None

        return jax.lax.scan(layer, chunk[0], jnp.arange(first, last + 1))[0]

    return jax.lax.map(run, (x, packing.segments))


def end_rows(
    params: Params,
    config: CLIPConfig,
    x: Float[Array, "G R D"],
    shared: Shared,
    packing: Packing,
    first: int,
    shards: int = 1,
    own: Own | None = None,
) -> Float[Array, "C D"]:
    """The last layer's output at each prompt's end of text, before the final LayerNorm.

    The chunks of the `shards` are run side by side. Those of a shard are run one after the other, and the backward pass
    runs each of them again: memory is that of one.

    Args:
        params: the CLIP parameters.
        config: the architecture.
        x: packed rows, input of layer `first`.
        shared: of the layers from `first` to the last, as `run_shared` gives them.
        packing: of the G chunks.
        first: counted from 1.
        shards: groups of devices.
        own: tokens of each prompt's own.
    """
    values = {} if own is None else {n: value.reshape(-1, value.shape[-1]) for n, value in own.values.items()}

    def run(chunk: tuple[Array, Packing, Array | None]) -> Float[Array, "E D"]:
        x, packing, rows = chunk

        def enter(x: Float[Array, "R D"], number: int) -> Float[Array, "R D"]:
            if number not in values or rows is None:
                return x
            taken = jnp.take(values[number].astype(x.dtype), rows, axis=0, mode="fill", fill_value=0)
            return jnp.where((rows < len(values[number]))[:, None], taken, x)

        return _run_chunk(params, config, x, packing, shared, first, enter, tuple(values))

    # The order is that of all chunks.
    chunks = (x, packing._replace(order=jnp.arange(len(x))), None if own is None else own.rows)
    if len(x) == 1:
        ends = run(jax.tree.map(lambda leaf: leaf[0], chunks))
    elif len(x) == shards:
        ends = jax.vmap(run)(chunks)
    elif shards > 1:
        turns = jax.tree.map(lambda leaf: leaf.reshape(shards, -1, *leaf.shape[1:]).swapaxes(0, 1), chunks)
        ends = jax.lax.map(jax.checkpoint(jax.vmap(run), prevent_cse=False), turns).swapaxes(0, 1)
    else:
        ends = jax.lax.map(jax.checkpoint(run, prevent_cse=False), chunks)
    return jnp.take(ends.reshape(-1, ends.shape[-1]), packing.order, axis=0, unique_indices=True)


def _run_chunk(
    params: Params,
    config: CLIPConfig,
    x: Float[Array, "R D"],
    chunk: Packing,
    shared: Shared,
    first: int,
    enter: Callable[[Array, int], Array],
    entered: tuple[int, ...],
) -> Float[Array, "E D"]:
    # By their place in the prompts, behind those of the first prompt that all share.
    stack, last = layers.draw_apart(params["text_model"]["encoder"]["layers"], chunk.sources), config.text.layers
    mask = attention_mask(chunk.segments)

    def layer(x: Array, at: tuple[Array | int, Shared]) -> tuple[Array, None]:
        return _layer(config.text, stack, x, at[1], mask, at[0]), None

    for start, stop in itertools.pairwise(sorted({first, last, *(n for n in entered if first < n < last)})):
        x = enter(x, start)
        if stop - start > layers.UNROLLED:
            common = jax.tree.map(lambda leaf, i=start - first, j=stop - first: leaf[i:j], shared)
            x, _ = jax.lax.scan(layers.recompute(layer, in_scan=True), x, (jnp.arange(start, stop), common))
            continue
        for number in range(start, stop):
            common = _at(shared, number - first)
            x, _ = layers.recompute(lambda x, common, n=number: layer(x, (n, common)))(x, common)
    read = layers.recompute(lambda x, common: _read_ends(config.text, stack, x, common, mask, chunk))
    return cast(Array, read(enter(x, last), _at(shared, last - first)))


def _at(shared: Shared, layer: Array | int) -> Shared:
    return Shared(shared.keys[layer], shared.values[layer])


def _layer(
    tower: TowerConfig,
    stack: Params,
    x: Float[Array, "R D"],
    shared: Shared,
    mask: Bool[Array, "M 1 W W"],
    number: Array | int,
) -> Float[Array, "R D"]:
    block = layers.block_of(tower, stack, number, x.dtype)
    return block.finish(x, _attend(*block.project(x), shared, mask))


def _read_ends(
    tower: TowerConfig,
    stack: Params,
    x: Float[Array, "R D"],
    shared: Shared,
    mask: Bool[Array, "M 1 W W"],
    chunk: Packing,
) -> Float[Array, "E D"]:
    """The last layer: output projection and MLP at the ends of text alone."""
    block = layers.block_of(tower, stack, tower.layers, x.dtype)
    outputs = _attend(*block.project(x), shared, mask)
    return block.finish(*(take_rows(rows, chunk.ends, chunk.prompts) for rows in (x, outputs)))


def _attend(
    query: Float[Array, "R H Dh"],
    key: Float[Array, "R H Dh"],
    value: Float[Array, "R H Dh"],
    shared: Shared,
    mask: Bool[Array, "M 1 W W"],
) -> Float[Array, "R H Dh"]:
    """One softmax over the shared keys, all of them open, and those of a row's sequence that `mask` opens."""
    rows, (sequences, _, width, _) = query.shape, mask.shape
    query, key, value = (part.reshape(sequences, width, *rows[1:]) for part in (query * rows[-1] ** -0.5, key, value))
    own = jnp.einsum("mqhd,mkhd->mhqk", query, key, preferred_element_type=jnp.float32)
    own = jnp.where(mask, own, jnp.finfo(jnp.float32).min)
    common = jnp.einsum("mqhd,zhd->mhqz", query, shared.keys, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(jnp.concatenate([common, own], axis=-1), axis=-1).astype(value.dtype)
    length = len(shared.keys)
    outputs = jnp.einsum("mhqz,zhd->mqhd", weights[..., :length], shared.values)
    outputs = outputs + jnp.einsum("mhqk,mkhd->mqhd", weights[..., length:], value)
    return outputs.reshape(rows)
