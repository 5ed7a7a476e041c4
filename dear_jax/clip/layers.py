"""The transformer block that serves vision and text, prefix and suffix, plain and masked."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt32

from dear_jax.clip.config import TowerConfig

Params = dict[str, Any]
Pick = Callable[[Array], Array]  # takes some of the rows of an array

LOW_RANK = "low_rank"  # of a layer's self_attn parameters: what `add_low_rank` takes, if anything
SAVED = "saved"  # what the backward pass keeps of a layer; the rest, all of it cheap, is computed again
# Layers that run one by one, at most, where a gradient is taken: a loop copies what its backward pass keeps, but more
# layers than these take long to compile, and each may hold a copy of its parameters.
UNROLLED = 6


class Analysis(NamedTuple):
    """What the heads of a layer did."""

    probabilities: Float[Array, "B H T T"]  # attention of query row to key column, float32
    values: Float[Array, "B T H Dh"]  # what is weighted by it, of the key columns
    head_outputs: Float[Array, "B T H Dh"]  # each head's weighted values, before the output projection


class Tokens(NamedTuple):
    """Learned tokens of a sequence, layer by layer: a single entry serves all layers, else each layer has its own.

    `values[0]` enter before a layer J. What layer J + i - 1 left in their places becomes, before layer J + i,
    `beta[i] * values[i] + (1 - beta[i]) * left`. So a beta between 0 and 1 mixes (DeAR, MMRL++), 1 with values for
    each layer replaces (MMRL), 1 for the first layers and then 0 lets tokens go on as they are (MaPLe, PromptSRC),
    and 0 lets them enter once (CoOp).
    """

    values: Float[Array, "n K D"]  # n is 1, or the number of layers from J on
    beta: Float[Array, "n"]  # share of the learned token, in [0, 1]

    @property
    def length(self) -> int:
        """K."""
        return self.values.shape[1]

    def check(self, layers: int) -> None:
        """Refuse entries that are neither one nor one for each of the layers J..L.

        Raises:
            ValueError: their number.
        """
        for name, entries in (("values", self.values), ("beta", self.beta)):
            if len(entries) not in (1, layers):
                raise ValueError(f"tokens: expected 1 or {layers} entries of {name}, got {len(entries)}")

    def at(self, index: Array | int) -> tuple[Float[Array, "K D"], Float[Array, ""]]:
        """Values and beta of layer J + `index`."""
        return _entry(self.values, index), _entry(self.beta, index)


def _entry(entries: Array, index: Array | int) -> Array:
    return entries[0] if len(entries) == 1 else jax.lax.dynamic_index_in_dim(entries, index, keepdims=False)


def attention(
    query: Float[Array, "B queries H Dh"],
    key: Float[Array, "B T H Dh"],
    value: Float[Array, "B T H Dh"],
    mask: Bool[Array, "#H queries T"] | None = None,
) -> tuple[Float[Array, "B queries H Dh"], Float[Array, "B H queries T"]]:
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


class LayerNorm(nn.LayerNorm):
    """Flax's own, which takes from an input of any dtype its mean in float32, where promotion is strict, too."""

    def __call__(self, x: Float[Array, "*B D"], *, mask: Array | None = None) -> Float[Array, "*B D"]:
        """Each row by itself."""
        with jax.numpy_dtype_promotion("standard"):
            return cast(Array, super().__call__(x, mask=mask))


def layer_norm(epsilon: float, name: str | None = None) -> LayerNorm:
    """LayerNorm in float32, whatever the compute dtype, as OpenAI's CLIP does it. Returns float32."""
    return LayerNorm(epsilon=epsilon, dtype=jnp.float32, use_fast_variance=False, name=name)


def apply_norm(params: Params, x: Float[Array, "*B D"], epsilon: float) -> Float[Array, "*B D"]:
    """The same LayerNorm outside a block, with its own parameters {"scale", "bias"}. Returns float32."""
    return cast(Array, layer_norm(epsilon).apply({"params": params}, x))


def add_low_rank(additions: Params, index: int, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """What learned matrices of low rank add to a projection: (dropout(x) A^T) B^T.

    Args:
        additions: of a layer: `a` `[3, r, D]` and `b` `[3, D, r]` of queries, keys and values; where inputs are dropped
            in training, also the random bits `bits` `[*leading, 2]` uint32, for each entry of the leading axes of `x`
            (`draw_apart`), and the rate `dropout`.
        index: 0, 1, 2 for queries, keys, values, whose inputs are dropped independently.
        x: the projection's input.
    """
    if "bits" in additions:
        rate = additions["dropout"]
        kept = _uniform(additions["bits"], index, x.shape) >= rate
        x = jnp.where(kept, x / (1 - rate).astype(x.dtype), 0)
    a, b = (additions[name][index].astype(x.dtype) for name in ("a", "b"))
    return (x @ a.T) @ b.T


def _uniform(bits: UInt32[Array, "*leading bits"], index: int, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    if bits.ndim > 1:
        return jax.vmap(lambda own: _uniform(own, index, shape[1:]))(bits)
    return jax.random.uniform(jax.random.fold_in(jax.random.wrap_key_data(bits), index), shape)


def draw_apart(stack: Params, numbers: Int[Array, "*leading"]) -> Params:
    """A stack in whose layers every entry of the leading axes of an input drops what its own number says.

    So an image, or a token of a prompt, drops the same wherever it is run: in a group of few images or among all, in
    whichever chunk and on whichever device. A stack that drops nothing stays as it is.
    """
    attention = stack["self_attn"]
    if LOW_RANK not in attention or "bits" not in attention[LOW_RANK]:
        return stack
    keys = jax.random.wrap_key_data(attention[LOW_RANK]["bits"])  # [L]
    fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
    bits = jax.random.key_data(fold(keys, numbers.reshape(-1)).reshape(len(keys), *numbers.shape))
    return stack | {"self_attn": attention | {LOW_RANK: attention[LOW_RANK] | {"bits": bits}}}


class SelfAttention(nn.Module):
    """The four projections of multi-head self-attention."""

    config: TowerConfig
    dtype: DTypeLike

    def setup(self) -> None:
        """Names of the checkpoint."""
        self.q_proj = nn.Dense(self.config.width, dtype=self.dtype)
        self.k_proj = nn.Dense(self.config.width, dtype=self.dtype)
        self.v_proj = nn.Dense(self.config.width, dtype=self.dtype)
        self.out_proj = nn.Dense(self.config.width, dtype=self.dtype)

    def project(self, queried: Float[Array, "*rows D"], x: Float[Array, "*B D"]) -> tuple[Array, Array, Array]:
        """Queries `[*rows, H, Dh]` of some rows; keys and values `[*B, H, Dh]` of all."""

        def split(flat: Array) -> Array:
            return flat.reshape(*flat.shape[:-1], self.config.heads, self.config.head_width)

        inputs = (queried, x, x)
        outputs = [dense(of) for dense, of in zip((self.q_proj, self.k_proj, self.v_proj), inputs, strict=True)]
        if self.has_variable("params", LOW_RANK):
            additions: Params = self.get_variable("params", LOW_RANK)
            outputs = [outputs[i] + add_low_rank(additions, i, of) for i, of in enumerate(inputs)]
        query, key, value = map(split, outputs)
        return query, key, value

    def merge(self, outputs: Float[Array, "*rows H Dh"]) -> Float[Array, "*rows D"]:
        """What the heads found, through the output projection."""
        return cast(Array, self.out_proj(outputs.reshape(*outputs.shape[:-2], self.config.width)))


class MLP(nn.Module):
    """Two dense layers around the activation that the checkpoint names."""

    config: TowerConfig
    dtype: DTypeLike

    @nn.compact
    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        """Each position by itself."""
        hidden = checkpoint_name(nn.Dense(self.config.mlp_width, dtype=self.dtype, name="fc1")(x), SAVED)
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
    dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        """Names of the checkpoint."""
        self.layer_norm1 = layer_norm(self.config.layer_norm_epsilon)
        self.self_attn = SelfAttention(self.config, self.dtype)
        self.layer_norm2 = layer_norm(self.config.layer_norm_epsilon)
        self.mlp = MLP(self.config, self.dtype)

    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "#H T T"] | None = None
    ) -> tuple[Float[Array, "B T D"], Analysis]:
        """Attention, then the MLP, each of the normalised input, each added to the residual stream."""
        query, key, value = self.project(x)
        outputs, probabilities = attention(query, key, value, mask)
        return self.finish(x, outputs), Analysis(probabilities, value, outputs)

    def project(self, x: Float[Array, "*B D"], pick: Pick | None = None) -> tuple[Array, Array, Array]:
        """Keys and values of all rows, queries of all or of those that `pick` takes, `[..., H, Dh]`."""
        normed = self.layer_norm1(x).astype(x.dtype)
        query, key, value = self.self_attn.project(normed if pick is None else pick(normed), normed)
        return checkpoint_name(query, SAVED), checkpoint_name(key, SAVED), checkpoint_name(value, SAVED)

    def finish(self, x: Float[Array, "*rows D"], outputs: Float[Array, "*rows H Dh"]) -> Float[Array, "*rows D"]:
        """The rows `x` with the heads' outputs for them added, then the MLP."""
        x = checkpoint_name(x + self.self_attn.merge(outputs), SAVED)
        return x + cast(Array, self.mlp(self.layer_norm2(x).astype(x.dtype)))


def insert_tokens(x: Float[Array, "B T D"], values: Float[Array, "K D"], start: int) -> Float[Array, "B longer D"]:
    """Put the same K tokens into every sequence, so that they stand at positions start..start+K-1."""
    tokens = jnp.broadcast_to(values.astype(x.dtype), (x.shape[0], *values.shape))
    return jnp.concatenate([x[:, :start], tokens, x[:, start:]], axis=1)


def mix_tokens(x: Float[Array, "B T D"], tokens: Tokens, start: int, index: Array | int) -> Float[Array, "B T D"]:
    """Replace the tokens that a layer left at `start`.. by those that enter layer J + `index`, see `Tokens`."""
    values, beta = tokens.at(index)
    end = start + tokens.length
    mixed = beta * values[None] + (1 - beta) * x[:, start:end].astype(jnp.float32)
    return jnp.concatenate([x[:, :start], mixed.astype(x.dtype), x[:, end:]], axis=1)


def run_blocks(
    config: TowerConfig,
    stack: Params,
    x: Float[Array, "B T D"],
    mask: Bool[Array, "#H T T"] | Bool[Array, "L #H T T"] | None = None,
    first: int = 1,
    last: int | None = None,
    before: Callable[[Array, Array | int], Array] | None = None,
    unroll: bool = False,
) -> Float[Array, "B T D"]:
    """The blocks first..last of `stack` (leaves `[L, ...]`) on `x`, in the dtype of `x`.

    Args:
        config: the tower.
        stack: the blocks' parameters with a leading layer axis.
        x: the sequences.
        mask: none, the same for every layer, or one for each of the layers that run.
        first: the first layer to run, counted from 1.
        last: the last one; None: the last of the stack.
        before: what is done to the input of each layer, given the layer's number: mixing in of learned tokens.
        unroll: one by one where they are few (`UNROLLED`), for a gradient is taken.
    """
    last = depth(stack) if last is None else last
    if last < first:
        return x
    masks = None if mask is None else jnp.asarray(mask)

    def layer(x: Array, number: Array | int) -> tuple[Array, None]:
        block = block_of(config, stack, number, x.dtype)
        if before is not None:
            x = before(x, number)
        x, _ = block(x, masks[number - first] if masks is not None and masks.ndim == 4 else masks)
        return x, None

    if unroll and last - first < UNROLLED:
        for number in range(first, last + 1):
            x, _ = recompute(functools.partial(layer, number=number))(x)
        return x
    # The layers' numbers are scanned, not their parameters: a slice of the stack would be copied first.
    return cast(Array, jax.lax.scan(recompute(layer, in_scan=True), x, jnp.arange(first, last + 1))[0])


def block_of(config: TowerConfig, stack: Params, number: Array | int, dtype: DTypeLike) -> Block:
    """Block `number`, counted from 1, of a stack, ready to be called."""
    params = jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number - 1, keepdims=False), stack)
    return Block(config, dtype).bind({"params": params})


def depth(stack: Params) -> int:
    """Layers of a stack."""
    return len(jax.tree.leaves(stack)[0])


def recompute(layer: Callable[..., Any], in_scan: bool = False) -> Callable[..., Any]:
    """A layer of which the backward pass keeps only what is named SAVED, and no copy of the layer's parameters."""
    policy = jax.checkpoint_policies.save_only_these_names(SAVED)
    return jax.checkpoint(layer, policy=policy, prevent_cse=not in_scan)


def unit(x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
    """Scale to unit length, so that products are cosines."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def slice_layers(stack: Params, first: int, last: int) -> Params:
    """Layers first..last of a stack, counted from 1, both included."""
    return jax.tree.map(lambda leaf: leaf[first - 1 : last], stack)
