"""An image's representation as a sum of direct contributions (methods/dear section 1, step 1).

Comes in: normalised pixels. Goes out: `Parts`, each in the joint space, whose sum is the encoder's output:

    encode(x) = before + sum_l (sum_h heads[l, h] + biases[l] + mlps[l]) + norm_bias

The final LayerNorm is linear once an image's own standard deviation is known: part p becomes
`(p - mean(p)) / std * scale`, and its bias is a part of its own. After Gandelsman et al., arXiv 2310.05916.

`paths_and_heads` has the same of every path of a method with learned tokens, a mask and projections of its own.
`walk` and `walk_rows` are what these and `places.locate`, which cuts the heads by image position as well, have in
common.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dear_jax.clip import layers, vision
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import MLP, Analysis, Block, Params, Tokens


class Parts(NamedTuple):
    """Direct contributions to the class token's output in the joint space, of layers J..L (n of them)."""

    before: Float[Array, "B d"]  # what enters layer J: the embedding and all layers before; J=1: the embedding
    heads: Float[Array, "B n H d"]
    biases: Float[Array, "B n d"]  # of the attention's output projection, which belongs to no head
    mlps: Float[Array, "B n d"]
    norm_bias: Float[Array, "d"]  # of the final LayerNorm

    def total(self) -> Float[Array, "B d"]:
        """The sum of all parts: the encoder's output."""
        return self.before + self.heads.sum((1, 2)) + self.biases.sum(1) + self.mlps.sum(1) + self.norm_bias[None]


class ReadOut(NamedTuple):
    """How a vision tower is read: what enters it, and which rows of its last layer each of N paths is made of.

    The feature of path i, before it is scaled to unit length, is the mean over its rows r of `LN(row r) @ kernels[i]`
    with the frozen final LayerNorm LN.
    """

    params: Params  # CLIP's, with what is learned inside the vision tower, if anything
    kernels: Float[Array, "N D d"]
    rows: tuple[tuple[int, ...], ...]  # of each path; 0 is the class token, learned tokens stand behind the patches
    tokens: Tokens | None = None
    head_mask: Bool[Array, "L H T T"] | None = None
    first_layer: int = 1  # J, counted from 1, before which the tokens enter; the mask is of the layers from it on

    @property
    def entries(self) -> tuple[tuple[int, int], ...]:
        """Path and row of each of the M rows that are read, path after path."""
        return tuple((path, row) for path, rows in enumerate(self.rows) for row in rows)

    def shares(self) -> Float[Array, "N M"]:
        """The share of each entry in the feature of each path: the mean over the path's own."""
        shares = [[(path == own) / len(self.rows[own]) for own, _ in self.entries] for path in range(len(self.rows))]
        return jnp.asarray(np.array(shares), jnp.float32)


def plain(params: Params) -> ReadOut:
    """Plain CLIP: one path, the class token through the frozen projection."""
    return ReadOut(params, params["visual_projection"]["kernel"][None], ((0,),))


class LayerParts(NamedTuple):
    """What one layer adds to some rows, before the final LayerNorm."""

    heads: Float[Array, "*rows H D"]
    bias: Float[Array, "D"]
    mlp: Float[Array, "*rows D"]


def walk(
    read: ReadOut,
    config: CLIPConfig,
    x: Float[Array, "B Q D"],
    first_layer: int,
    look: Callable[[Params, Array, Analysis], Any],
) -> tuple[Float[Array, "B T D"], Any]:
    """Run layers first_layer.. and look at each: up to L, or, before the layer where tokens enter, up to that one.

    Args:
        read: what enters.
        config: the architecture.
        x: input of the first of these layers, without learned tokens.
        first_layer: counted from 1, at most `read.first_layer` where tokens enter.
        look: a layer's parameters, its input `[B, T, D]` and what its heads did -> a tree of arrays.

    Returns:
        The output of the last one, and what was seen, leaves `[n, ...]`.
    """
    tower, originals, enters = config.vision, x.shape[1], read.first_layer
    below = read.tokens is not None and first_layer < enters
    tokens, mask = (None, None) if below else (read.tokens, read.head_mask)
    last = enters - 1 if below else tower.layers
    stack = layers.slice_layers(read.params["vision_model"]["encoder"]["layers"], first_layer, last)
    count = last - first_layer + 1
    if tokens is not None:
        tokens.check(count)
        x = layers.insert_tokens(x, tokens.at(0)[0], originals)
    block = Block(tower)

    def layer(x: Array, entry: tuple[Params, Array, Array | None]) -> tuple[Array, Any]:
        one, index, mask = entry
        if tokens is not None:
            x = jnp.where(index > 0, layers.mix_tokens(x, tokens, originals, index), x)
        following, analysis = cast(tuple[Array, Analysis], block.apply({"params": one}, x, mask))
        return following, look(one, x, analysis)

    return cast(tuple[Array, Any], jax.lax.scan(layer, x, (stack, jnp.arange(count), mask)))


class Stretch(NamedTuple):
    """What was seen in some layers that follow one another."""

    entries: tuple[int, ...]  # of M, those that are there
    seen: Any  # leaves [n, ...]


def walk_rows(
    read: ReadOut,
    config: CLIPConfig,
    x: Float[Array, "B Q D"],
    first_layer: int,
    look: Callable[[Params, Array, Analysis, tuple[int, ...]], Any],
) -> tuple[Float[Array, "B T D"], list[Stretch]]:
    """Run layers first_layer..L and look at the rows that are read; below J the learned ones are not there yet.

    Args:
        read: what enters.
        config: the architecture.
        x: input of the first of these layers, without learned tokens.
        first_layer: counted from 1.
        look: as in `walk`, and given which of the M entries are there.

    Returns:
        The output of the last layer, and one stretch, or two with the layers below J as the first.
    """
    everything, stretches = tuple(range(len(read.entries))), []
    if read.tokens is not None and first_layer < read.first_layer:
        there = tuple(entry for entry, (_, row) in enumerate(read.entries) if row < x.shape[1])
        x, seen = walk(read, config, x, first_layer, lambda one, x, analysis: look(one, x, analysis, there))
        stretches, first_layer = [Stretch(there, seen)], read.first_layer
    x, seen = walk(read, config, x, first_layer, lambda one, x, analysis: look(one, x, analysis, everything))
    return x, [*stretches, Stretch(everything, seen)]


def entered(
    tokens: Tokens | None, start: Float[Array, "B Q D"], count: int, above: int
) -> tuple[Float[Array, "n T"], Float[Array, "B T D"]]:
    """For all places: what is left of what each of n layers added, and what there is beside what layers added.

    Tokens enter before the last `above` of the layers.
    """
    decay = jnp.ones((count, start.shape[1]))
    if tokens is None:
        return decay, start
    values = jnp.broadcast_to(tokens.values, (above, *tokens.values.shape[1:]))
    beta = jnp.broadcast_to(tokens.beta, (above,))
    left = jnp.cumprod(jnp.append(1 - beta[1:], 1.0)[::-1])[::-1]
    learned = jnp.einsum("l,lkD->kD", left * beta.at[0].set(1.0), values)
    left = jnp.pad(left, (count - above, 0))
    decay = jnp.concatenate([decay, jnp.broadcast_to(left[:, None], (count, tokens.length))], axis=1)
    return decay, jnp.concatenate([start, jnp.broadcast_to(learned, (len(start), *learned.shape))], axis=1)


class PathParts(NamedTuple):
    """The feature of each of N paths before it is scaled to unit length, and what every head of n layers adds to it."""

    features: Float[Array, "B N d"]
    heads: Float[Array, "B N n H d"]


def paths_and_heads(
    read: ReadOut, config: CLIPConfig, pixels: Float[Array, "B h w 3"], first_layer: int = 1
) -> PathParts:
    """The paths of a method, with the direct contributions of all heads of layers first_layer..L, in float32.

    Of plain CLIP the feature is `decompose(...).total()`, and the heads are its heads. Heads below the layer where
    learned tokens enter add nothing to the paths that read them; layers below first_layer where these are there already
    run as well, and are left out.
    """
    begin = first_layer if read.tokens is None else min(first_layer, read.first_layer)
    start = vision.prefix(read.params, config, pixels, begin - 1)
    rows = np.array([row for _, row in read.entries])

    def look(one: Params, x: Array, analysis: Analysis, there: tuple[int, ...]) -> Array:
        heads = layer_parts(one, config, x[:, rows[list(there)]], analysis.head_outputs[:, rows[list(there)]]).heads
        return jnp.zeros((*heads.shape[:1], len(rows), *heads.shape[2:])).at[:, np.array(there)].set(heads)

    end, stretches = walk_rows(read, config, start, begin, look)
    heads = jnp.concatenate([stretch.seen for stretch in stretches])  # [n, B, M, H, D]
    decay, _ = entered(read.tokens, start, len(heads), len(stretches[-1].seen))
    ends, norm = end[:, rows], read.params["vision_model"]["post_layernorm"]
    shares = read.shares()
    features = jnp.einsum("nm,bmD,nDd->bnd", shares, vision.final_norm(read.params, config, ends), read.kernels)
    centred, kernels = heads - heads.mean(-1, keepdims=True), norm["scale"][None, :, None] * read.kernels
    divided = centred * decay[:, None, rows, None, None] / deviation(config, ends)[None, :, :, None, None]
    return PathParts(
        features, jnp.einsum("nm,lbmhD,nDd->bnlhd", shares, divided[first_layer - begin :], kernels)
    )


def decompose(params: Params, config: CLIPConfig, pixels: Float[Array, "B h w 3"], first_layer: int = 1) -> Parts:
    """The parts of layers first_layer..L of plain CLIP, in float32; with first_layer 1 all there are."""
    start = vision.prefix(params, config, pixels, first_layer - 1)

    def look(one: Params, x: Array, analysis: Analysis) -> LayerParts:
        return layer_parts(one, config, x[:, 0], analysis.head_outputs[:, 0])

    end, parts = walk(plain(params), config, start, first_layer, look)
    norm = params["vision_model"]["post_layernorm"]
    kernel = params["visual_projection"]["kernel"]
    spread = deviation(config, end[:, 0])
    matrix = norm["scale"][:, None] * kernel

    def to_joint(part: Float[Array, "B *parts D"]) -> Float[Array, "B *parts d"]:
        centred = part - part.mean(-1, keepdims=True)
        return (centred / spread.reshape(-1, *(1,) * (part.ndim - 1))) @ matrix

    biases = jnp.broadcast_to(parts.bias[None], (len(pixels), *parts.bias.shape))
    return Parts(
        before=to_joint(start[:, 0]),
        heads=to_joint(jnp.moveaxis(parts.heads, 0, 1)),
        biases=to_joint(biases),
        mlps=to_joint(jnp.moveaxis(parts.mlp, 0, 1)),
        norm_bias=norm["bias"] @ kernel,
    )


def deviation(config: CLIPConfig, rows: Float[Array, "*rows D"]) -> Float[Array, "*rows"]:
    """By what the final LayerNorm divides each row."""
    return jnp.sqrt(jnp.var(rows, axis=-1) + config.vision.layer_norm_epsilon)


def layer_parts(
    one: Params, config: CLIPConfig, x: Float[Array, "*rows D"], head_outputs: Float[Array, "*rows H Dh"]
) -> LayerParts:
    """Each head through its own rows of the output projection; the MLP of the rows, computed anew."""
    tower = config.vision
    heads = jnp.einsum("...hc,hcD->...hD", head_outputs, head_kernels(one, config))
    bias = one["self_attn"]["out_proj"]["bias"]
    middle = x + heads.sum(-2) + jnp.broadcast_to(bias, x.shape)
    normed = layers.apply_norm(one["layer_norm2"], middle, tower.layer_norm_epsilon)
    mlp = MLP(tower, jnp.float32).apply({"params": one["mlp"]}, normed)
    return LayerParts(heads, bias, cast(Array, mlp))


def head_kernels(one: Params, config: CLIPConfig) -> Float[Array, "H Dh D"]:
    """A layer's output projection, cut into the rows of its heads."""
    tower = config.vision
    kernel: Array = one["self_attn"]["out_proj"]["kernel"]
    return kernel.reshape(tower.heads, tower.head_width, tower.width)


def ablate(
    outputs: Float[Array, "B d"],
    heads: Float[Array, "B n H d"],
    means: Float[Array, "n H d"],
    ablated: Bool[Array, "sets n H"],
) -> Float[Array, "B sets d"]:
    """The representation with the direct contributions of sets of heads replaced by their means over images.

    This is the direct effect, as Gandelsman et al. measure it: what later layers made of an ablated head stays.
    """
    change = means[None] - heads
    return outputs[:, None] + jnp.einsum("bnhd,snh->bsd", change, ablated.astype(change.dtype))
