"""An image's representation as a sum of direct contributions (methods/dear section 1, step 1).

Comes in: normalised pixels. Goes out: `Parts`, each in the joint space, whose sum is the encoder's output:

    encode(x) = before + sum_l (sum_h heads[l, h] + biases[l] + mlps[l]) + norm_bias

The final LayerNorm is linear once an image's own standard deviation is known: part p becomes
`(p - mean(p)) / std * scale`, and its bias is a part of its own. After Gandelsman et al., arXiv 2310.05916.

`walk` is what this and `places.locate`, which cuts the heads by image position as well, have in common.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
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
