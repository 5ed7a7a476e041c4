"""An image's representation as a sum of direct contributions (methods/dear section 1, step 1).

Comes in: normalised pixels. Goes out: `Parts`, each in the joint space, whose sum is the encoder's output:

    encode(x) = before + sum_l (sum_h heads[l, h] + biases[l] + mlps[l]) + norm_bias

The final LayerNorm is linear once an image's own standard deviation is known: part p becomes
`(p - mean(p)) / std * scale`, and its bias is a part of its own. After Gandelsman et al., arXiv 2310.05916.
"""

from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dear_jax.clip import layers, vision
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import MLP, Block, Params


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


class _LayerParts(NamedTuple):
    """What one layer adds to the class token, before the final LayerNorm."""

    heads: Float[Array, "B H D"]
    bias: Float[Array, "D"]
    mlp: Float[Array, "B D"]


def decompose(params: Params, config: CLIPConfig, pixels: Float[Array, "B h w 3"], first_layer: int = 1) -> Parts:
    """The parts of layers first_layer..L of plain CLIP, in float32; with first_layer 1 all there are."""
    stack = layers.slice_layers(params["vision_model"]["encoder"]["layers"], first_layer, config.vision.layers)
    start = vision.prefix(params, config, pixels, first_layer - 1)
    block = Block(config.vision)

    def layer(x: Array, one: Params) -> tuple[Array, _LayerParts]:
        outputs = block.apply({"params": one}, x)
        following, analysis = cast(tuple[Array, layers.Analysis], outputs)
        return following, _layer_parts(one, config, x[:, 0], analysis.head_outputs[:, 0])

    end, parts = jax.lax.scan(layer, start, stack)
    norm = params["vision_model"]["post_layernorm"]
    kernel = params["visual_projection"]["kernel"]
    deviation = jnp.sqrt(jnp.var(end[:, 0], axis=-1) + config.vision.layer_norm_epsilon)
    matrix = norm["scale"][:, None] * kernel

    def to_joint(part: Float[Array, "B *parts D"]) -> Float[Array, "B *parts d"]:
        centred = part - part.mean(-1, keepdims=True)
        return (centred / deviation.reshape(-1, *(1,) * (part.ndim - 1))) @ matrix

    biases = jnp.broadcast_to(parts.bias[None], (len(pixels), *parts.bias.shape))
    return Parts(
        before=to_joint(start[:, 0]),
        heads=to_joint(jnp.moveaxis(parts.heads, 0, 1)),
        biases=to_joint(biases),
        mlps=to_joint(jnp.moveaxis(parts.mlp, 0, 1)),
        norm_bias=norm["bias"] @ kernel,
    )


def _layer_parts(
    one: Params, config: CLIPConfig, x: Float[Array, "B D"], head_outputs: Float[Array, "B H Dh"]
) -> _LayerParts:
    """Each head through its own rows of the output projection; the MLP of the class token, computed anew."""
    tower = config.vision
    kernel = one["self_attn"]["out_proj"]["kernel"].reshape(tower.heads, tower.head_width, tower.width)
    bias = one["self_attn"]["out_proj"]["bias"]
    heads = jnp.einsum("bhc,hcD->bhD", head_outputs, kernel)
    middle = x + heads.sum(1) + bias[None]
    normed = layers.apply_norm(one["layer_norm2"], middle, tower.layer_norm_epsilon)
    mlp = MLP(tower, jnp.float32).apply({"params": one["mlp"]}, normed)
    return _LayerParts(heads, bias, cast(Array, mlp))


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
