"""Position embeddings for another image size: the grid of patches is resized like a small image.

Pillow's bicubic interpolation, which is that of open_clip and timm (torch's `interpolate(mode="bicubic",
antialias=True, align_corners=False)`): Keys' kernel with a = -1/2, pixel centres at half integers, the kernel widened
when the grid shrinks, weights outside the grid dropped and the rest scaled to sum 1. `jax.image.resize` has the same
kernel, but compiles a program for every size and needs a device. The class token's embedding stays as it is.
transformers' `interpolate_pos_encoding` differs: a = -3/4 and no widening.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from PIL import Image

from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.errors import UserError

LARGEST_SIDE = 64  # patches: attention and masks grow with the fourth power of a side

def resize(config: CLIPConfig, params: Params, image_size: int) -> tuple[CLIPConfig, Params]:
    """The same CLIP for square images of `image_size` pixels. The given tree is not changed.

    Raises:
        UserError: the size is not a positive multiple of the patch size, or of more than `LARGEST_SIDE` patches.
    """
    if not 0 < image_size <= LARGEST_SIDE * config.patch_size or image_size % config.patch_size:
        raise UserError(
            f"config.image_size is {image_size}, expected a multiple of this backbone's patch size, "
            f"{config.patch_size} pixels, of at most {LARGEST_SIDE} patches, or None for the size it was made for, "
            f"{config.image_size}."
        )
    resized = dataclasses.replace(config, image_size=image_size)
    embeddings = params["vision_model"]["embeddings"]
    table = embeddings["position_embedding"]["embedding"]
    side, new_side = config.image_size // config.patch_size, image_size // config.patch_size
    grid = resize_grid(table[1:].reshape(side, side, -1), new_side)
    new_table = np.concatenate([table[:1], grid.reshape(new_side**2, -1)])
    embeddings = embeddings | {"position_embedding": {"embedding": new_table}}
    return resized, params | {"vision_model": params["vision_model"] | {"embeddings": embeddings}}


def resize_grid(grid: Float[np.ndarray, "H H D"], side: int) -> Float[np.ndarray, "h h D"]:
    """A grid of vectors, float32, as one of `side` x `side`."""
    channels = [Image.fromarray(channel) for channel in np.ascontiguousarray(grid.transpose(2, 0, 1))]
    resized = [channel.resize((side, side), Image.Resampling.BICUBIC) for channel in channels]
    return np.stack([np.asarray(channel) for channel in resized], axis=-1)
