"""Position embeddings for another image size: the grid of patches is resized like a small image.

Bicubic interpolation as open_clip and timm do it (torch's `interpolate(mode="bicubic", antialias=True,
align_corners=False)`, Pillow's BICUBIC): Keys' kernel with a = -1/2, pixel centres at half integers, the kernel
widened when the grid shrinks, weights outside the grid dropped and the rest scaled to sum 1. The class token's
embedding stays as it is. transformers' `interpolate_pos_encoding` differs: a = -3/4 and no widening.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.errors import UserError


def resize(config: CLIPConfig, params: Params, image_size: int) -> tuple[CLIPConfig, Params]:
    """The same CLIP for square images of `image_size` pixels. The given tree is not changed.

    Raises:
        UserError: the size is not a positive multiple of the patch size.
    """
    if image_size <= 0 or image_size % config.patch_size:
        raise UserError(
            f"config.image_size is {image_size}, expected a multiple of this backbone's patch size, "
            f"{config.patch_size} pixels, or None for the size it was made for, {config.image_size}."
        )
    resized = dataclasses.replace(config, image_size=image_size)
    embeddings = params["vision_model"]["embeddings"]
    table = embeddings["position_embedding"]["embedding"]
    side, new_side = config.image_size // config.patch_size, image_size // config.patch_size
    weights = bicubic_weights(side, new_side)
    grid = np.einsum("yi,xj,ijd->yxd", weights, weights, table[1:].reshape(side, side, -1), optimize=True)
    new_table = np.concatenate([table[:1], grid.reshape(new_side**2, -1).astype(np.float32)])
    embeddings = embeddings | {"position_embedding": {"embedding": new_table}}
    return resized, params | {"vision_model": params["vision_model"] | {"embeddings": embeddings}}


def bicubic_weights(size: int, new_size: int) -> Float[np.ndarray, "new_size size"]:
    """What each of `size` samples on a line gives to each of `new_size` samples over the same length, in float64."""
    scale = size / new_size
    support = max(scale, 1.0)
    centers = (np.arange(new_size) + 0.5) * scale
    distance = np.abs(np.arange(size) + 0.5 - centers[:, None]) / support
    weights = np.where(
        distance < 1,
        1.5 * distance**3 - 2.5 * distance**2 + 1,
        np.where(distance < 2, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2, 0.0),
    )
    return weights / weights.sum(axis=1, keepdims=True)
