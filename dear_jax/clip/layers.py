"""The transformer block that serves vision and text, prefix and suffix, plain and masked."""

from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dear_jax.clip.config import TowerConfig

Params = dict[str, Any]


class Analysis(NamedTuple):
    """What a layer did, for analysis. A scan stacks a leading layer axis."""

    probabilities: Float[Array, "B H T T"]  # attention of query row to key column, float32
    head_outputs: Float[Array, "B T H Dh"]  # each head's weighted values, before the output projection


class Tokens(NamedTuple):
    """Learned tokens and how they are mixed into the sequence (METHOD.md section 2)."""

    values: Float[Array, "K D"]
    beta: Float[Array, ""] | float  # share of the learned token at each layer, in [0, 1]


def attention(
    query: Float[Array, "B T H Dh"],
    key: Float[Array, "B T H Dh"],
    value: Float[Array, "B T H Dh"],
    mask: Bool[Array, "#H T T"] | None = None,
) -> tuple[Float[Array, "B T H Dh"], Float[Array, "B H T T"]]:
    """Scaled dot-product attention; softmax in float32. Returns the outputs and the probabilities.

    `mask[h, q, k]` is True where query row q may attend to key column k. Four tokens of which the last two
    are learned and invisible to the first two::

        [[1, 1, 0, 0],
         [1, 1, 0, 0],
         [0, 0, 1, 1],
         [0, 0, 1, 1]]
    """
    scale = query.shape[-1] ** -0.5
    logits = jnp.einsum("bqhd,bkhd->bhqk", query * scale, key, preferred_element_type=jnp.float32)
    if mask is not None:
        logits = jnp.where(mask[None], logits, jnp.finfo(jnp.float32).min)
    probabilities = jax.nn.softmax(logits, axis=-1)
    return jnp.einsum("bhqk,bkhd->bqhd", probabilities.astype(value.dtype), value), probabilities


def layer_norm(epsilon: float, name: str | None = None) -> nn.LayerNorm:
    """LayerNorm in float32, whatever the compute dtype, as OpenAI's CLIP does it. Returns float32."""
    return nn.LayerNorm(epsilon=epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)


def apply_norm(params: Params, x: Float[Array, "*B D"], epsilon: float) -> Float[Array, "*B D"]:
    """The same LayerNorm outside a block, with its own parameters {"scale", "bias"}. Returns float32."""
    return cast(Array, layer_norm(epsilon).apply({"params": params}, x))


class SelfAttention(nn.Module):
    """Multi-head self-attention with one optional mask per head."""

    config: TowerConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], mask: Bool[Array, "#H T T"] | None) -> tuple[Array, Analysis]:
        """`[B, T, D]` to the same shape, and what the heads did."""

        def project(name: str) -> Array:
            flat = nn.Dense(self.config.width, dtype=self.dtype, name=name)(x)
            return flat.reshape(*x.shape[:-1], self.config.heads, self.config.head_width)

        outputs, probabilities = attention(project("q_proj"), project("k_proj"), project("v_proj"), mask)
        merged = nn.Dense(self.config.width, dtype=self.dtype, name="out_proj")(outputs.reshape(x.shape))
        return merged, Analysis(probabilities, outputs)


class MLP(nn.Module):
    """Two dense layers around the activation that the checkpoint names."""

    config: TowerConfig
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Each position by itself."""
        hidden = nn.Dense(self.config.mlp_width, dtype=self.dtype, name="fc1")(x)
        hidden = activate(hidden, self.config.activation)
        return nn.Dense(self.config.width, dtype=self.dtype, name="fc2")(hidden)


def activate(x: Array, activation: str) -> Array:
    """`quick_gelu`: x * sigmoid(1.702 x), OpenAI's; `gelu`: the exact one, x * Phi(x)."""
    if activation == "quick_gelu":
        return x * jax.nn.sigmoid(1.702 * x)
    return jax.nn.gelu(x, approximate=False)


class Block(nn.Module):
    """Pre-LayerNorm transformer block. Parameter names are those of the Hugging Face checkpoint."""

    config: TowerConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "#H T T"] | None = None
    ) -> tuple[Float[Array, "B T D"], Analysis]:
        """Attention, then the MLP, each of the normalised input, each added to the residual stream."""
        epsilon = self.config.layer_norm_epsilon
        normed = layer_norm(epsilon, "layer_norm1")(x).astype(x.dtype)
        attended, analysis = SelfAttention(self.config, self.dtype, name="self_attn")(normed, mask)
        x = x + attended
        normed = layer_norm(epsilon, "layer_norm2")(x).astype(x.dtype)
        return x + MLP(self.config, self.dtype, name="mlp")(normed), analysis


def insert_tokens(x: Float[Array, "B T D"], values: Float[Array, "K D"], start: int) -> Float[Array, "B T+K D"]:
    """Put the same K tokens into every sequence, so that they stand at positions start..start+K-1."""
    tokens = jnp.broadcast_to(values.astype(x.dtype), (x.shape[0], *values.shape))
    return jnp.concatenate([x[:, :start], tokens, x[:, start:]], axis=1)


def mix_tokens(x: Float[Array, "B T D"], tokens: Tokens, start: int) -> Float[Array, "B T D"]:
    """Replace the tokens r~ that a layer left at start.. by beta * r + (1 - beta) * r~."""
    end = start + tokens.values.shape[0]
    mixed = tokens.beta * tokens.values[None] + (1 - tokens.beta) * x[:, start:end].astype(jnp.float32)
    return jnp.concatenate([x[:, :start], mixed.astype(x.dtype), x[:, end:]], axis=1)


def run_blocks(
    config: TowerConfig,
    stack: Params,
    x: Float[Array, "B T D"],
    mask: Bool[Array, "#H T T"] | Bool[Array, "L #H T T"] | None = None,
    tokens: Tokens | None = None,
    start: int = 0,
    analyse: bool = False,
) -> tuple[Float[Array, "B T D"], Analysis | None]:
    """Scan the blocks of `stack` (leaves `[L, ...]`, a slice of a tower) over `x`, in the dtype of `x`.

    Args:
        config: the tower.
        stack: the blocks' parameters with a leading layer axis.
        x: the sequences.
        mask: none, the same for every layer, or one per layer.
        tokens: learned tokens that `x` already holds from position `start` on, mixed in before each layer.
        start: position of the first learned token.
        analyse: also return each layer's probabilities and head outputs, stacked `[L, ...]`.
    """
    block = Block(config, x.dtype)
    mask_per_layer = mask is not None and mask.ndim == 4

    def layer(x: Array, inputs: tuple[Params, Array | None]) -> tuple[Array, Analysis | None]:
        params, layer_mask = inputs
        if tokens is not None:
            x = mix_tokens(x, tokens, start)
        outputs = block.apply({"params": params}, x, layer_mask if mask_per_layer else mask)
        x, analysis = cast(tuple[Array, Analysis], outputs)
        return x, analysis if analyse else None

    return jax.lax.scan(layer, x, (stack, mask if mask_per_layer else None))


def slice_layers(stack: Params, first: int, last: int) -> Params:
    """Layers first..last of a stack, counted from 1, both included."""
    return jax.tree.map(lambda leaf: leaf[first - 1 : last], stack)
