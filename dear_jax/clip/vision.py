"""CLIP's vision tower: pixels in, features out, split into a prefix and a suffix.

`prefix` runs the layers that meet no learned token (1..J-1); `read_suffix` runs J..L, plain or with learned tokens
and a mask per head, and gives the rows that are read; `project` is the final LayerNorm and projection.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax.clip import layers
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.clip.layers import Params, Tokens

IN_CACHE = 4  # images whose activations the caches of a CPU hold


def in_groups(encode: Callable[[Any], Any], images: Any) -> Any:
    """`encode(images)`, on CPUs a few images at a time: the products of many wait for memory.

    Args:
        encode: works on each image by itself; leaves `[B, ...]` in and out.
        images: leaves `[B, ...]`.
    """
    (count,) = {len(leaf) for leaf in jax.tree.leaves(images)}
    size = max(size for size in range(1, IN_CACHE + 1) if count % size == 0)
    if count <= IN_CACHE:
        return encode(images)

    def grouped(images: Any) -> Any:
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), images)
        encoded = jax.lax.map(encode, groups)
        return jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[2:]), encoded)

    return jax.lax.platform_dependent(images, cpu=grouped, default=encode)


def normalize(images: UInt8[Array, "B h w 3"], config: CLIPConfig) -> Float[Array, "B h w 3"]:
    """RGB in 0..255 to float32 of the checkpoint's mean 0 and standard deviation 1."""
    mean = jnp.asarray(config.pixel_mean, jnp.float32).reshape(1, 1, 1, 3)
    std = jnp.asarray(config.pixel_std, jnp.float32).reshape(1, 1, 1, 3)
    return (images.astype(jnp.float32) / 255.0 - mean) / std


def embed(
    params: Params,
    config: CLIPConfig,
    pixels: Float[Array, "B h w 3"],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "B Q D"]:
    """Normalised pixels to the input of layer 1: the class token, then the patches in reading order."""
    size = (config.image_size, config.image_size, 3)
    if pixels.shape[1:] != size:
        raise ValueError(f"expected images of shape {size}, got {pixels.shape[1:]}")
    embeddings = params["vision_model"]["embeddings"]
    width = config.vision.width
    side, patch = config.image_size // config.patch_size, config.patch_size
    patches = pixels.reshape(-1, side, patch, side, patch, 3).transpose(0, 1, 3, 2, 4, 5)
    patches = patches.reshape(-1, side * side, patch * patch * 3).astype(dtype)
    x = patches @ embeddings["patch_embedding"]["kernel"].reshape(-1, width).astype(dtype)
    class_token = jnp.broadcast_to(embeddings["class_embedding"].astype(dtype), (x.shape[0], 1, width))
    x = jnp.concatenate([class_token, x], axis=1)
    x = x + embeddings["position_embedding"]["embedding"].astype(dtype)[None]
    norm = params["vision_model"]["pre_layrnorm"]
    return layers.apply_norm(norm, x, config.vision.layer_norm_epsilon).astype(dtype)


def prefix(
    params: Params,
    config: CLIPConfig,
    pixels: Float[Array, "B h w 3"],
    last_layer: int,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "B Q D"]:
    """Normalised pixels to the output of layer `last_layer` (0: the embedding alone)."""
    x = embed(params, config, pixels, dtype)
    return layers.run_blocks(config.vision, params["vision_model"]["encoder"]["layers"], x, last=last_layer)


def read_suffix(
    params: Params,
    config: CLIPConfig,
    x: Float[Array, "B Q D"],
    first_layer: int,
    tokens: Tokens | None = None,
    head_mask: Bool[Array, "L H T T"] | None = None,
    numbers: Int[Array, "B"] | None = None,
) -> Float[Array, "B N D"]:
    """Run layers first_layer..L; of the last layer's output the class token and the learned tokens, which are read.

    The last layer computes these rows alone; in the first one the learned tokens, still the same for every image, are
    projected once, and no gradient passes through the projections of the original tokens.

    Args:
        params: the CLIP parameters.
        config: the architecture.
        x: input of layer `first_layer` (J), as `prefix(..., J - 1)` gives it.
        first_layer: J, counted from 1.
        tokens: K learned tokens that enter here, after the patches, so that T = 1 + P + K; none: T = 1 + P.
        head_mask: `[L-J+1, H, T, T]`, True where the query row may attend to the key column. A row without an allowed
            key has no meaning: who builds a mask refuses it.
        numbers: of the images, by which they drop inputs in training (`layers.draw_apart`); none: all drop the same.

    Returns:
        The rows before the final LayerNorm.
    """
    tower, stack = config.vision, params["vision_model"]["encoder"]["layers"]
    stack = stack if numbers is None else layers.draw_apart(stack, numbers)
    originals = x.shape[1]
    if tokens is not None:
        tokens.check(tower.layers - first_layer + 1)
    _check_mask(config, head_mask, first_layer, originals + (0 if tokens is None else tokens.length))

    def mask_of(number: int) -> Array | None:
        return None if head_mask is None else head_mask[number - first_layer]

    def mix(x: Array, number: Array | int) -> Array:
        return x if tokens is None else layers.mix_tokens(x, tokens, originals, number - first_layer)

    def pick(x: Array) -> Array:
        return jnp.concatenate([x[..., :1, :], x[..., originals:, :]], axis=-2)

    first_middle = first_layer
    if tokens is not None and first_layer < tower.layers:
        enter = layers.recompute(functools.partial(_enter, tower, stack, first_layer))
        x = enter(x, tokens.at(0)[0], mask_of(first_layer))
        first_middle += 1
    elif tokens is not None:
        x = layers.insert_tokens(x, tokens.at(0)[0], originals)
    middle_mask = None if head_mask is None else head_mask[first_middle - first_layer : -1]
    x = layers.run_blocks(
        *(tower, stack, x, middle_mask),
        first=first_middle,
        last=tower.layers - 1,
        before=mix,
        unroll=tokens is not None,
    )

    def read(x: Array) -> Array:
        x = mix(x, tower.layers)
        block = layers.block_of(tower, stack, tower.layers, x.dtype)
        query, key, value = block.project(x, pick)
        mask = mask_of(tower.layers)
        outputs, _ = layers.attention(query, key, value, None if mask is None else pick(mask))
        return block.finish(pick(x), outputs)

    return cast(Array, layers.recompute(read)(x))


def _enter(
    tower: TowerConfig, stack: Params, number: int, x: Array, values: Float[Array, "K D"], mask: Array | None
) -> Float[Array, "B T D"]:
    """Layer `number`, before which the learned tokens enter, behind `x`."""
    block = layers.block_of(tower, stack, number, x.dtype)
    tokens = jnp.broadcast_to(values.astype(x.dtype), (len(x), *values.shape))
    projected = zip(block.project(x), block.project(values.astype(x.dtype)), strict=True)
    query, key, value = (jnp.concatenate([a, jnp.broadcast_to(b, (len(x), *b.shape))], axis=1) for a, b in projected)
    outputs, _ = layers.attention(query, key, value, mask)
    return block.finish(jnp.concatenate([x, tokens], axis=1), outputs)


def _check_mask(config: CLIPConfig, head_mask: Array | None, first_layer: int, length: int) -> None:
    expected = (config.vision.layers - first_layer + 1, config.vision.heads, length, length)
    if head_mask is not None and head_mask.shape != expected:
        raise ValueError(f"expected a head_mask of shape {expected} (layers, heads, T, T), got {head_mask.shape}")


def final_norm(params: Params, config: CLIPConfig, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """The frozen final LayerNorm, in float32."""
    norm = params["vision_model"]["post_layernorm"]
    return layers.apply_norm(norm, x, config.vision.layer_norm_epsilon)


def project(params: Params, config: CLIPConfig, x: Float[Array, "*B D"]) -> Float[Array, "*B d"]:
    """The class token's output to the joint space: final LayerNorm and frozen projection, in float32."""
    kernel = params["visual_projection"]["kernel"].astype(jnp.float32)
    return final_norm(params, config, x) @ kernel


def encode(
    params: Params,
    config: CLIPConfig,
    pixels: Float[Array, "B h w 3"],
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "B d"]:
    """Plain CLIP image features, not L2-normalised (`CLIPModel.get_image_features`)."""
    x = prefix(params, config, pixels, config.vision.layers, dtype)
    return project(params, config, x[:, 0])
