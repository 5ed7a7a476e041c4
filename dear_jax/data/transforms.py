"""Preprocessing of one image: uint8 [H, W, 3] in, uint8 [size, size, 3] out.

`augment` is torchvision's RandomResizedCrop and RandomHorizontalFlip, `resize_and_crop` its Resize
and CenterCrop, which OpenAI CLIP evaluates with. Both resample by Pillow's bicubic filter, which
widens when it shrinks an image (antialiasing), as torchvision does with Pillow images.
Normalization by the checkpoint's mean and standard deviation is the model's (`clip/vision.py`).
"""

import math
from typing import NamedTuple

import numpy as np
from PIL import Image

RATIO = (3 / 4, 4 / 3)  # width / height of a random crop
TRIES = 10  # at a random crop that fits, before the central one is taken
STRIP = 32  # long side / short side from where on an image is resized in parts
AT_ONCE = 2**24  # pixels of such a part
LONGEST = 2000  # long side / short side of what is resized whole; a longer strip is cut to it first


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def augment(
    image: np.ndarray,
    size: int,
    generator: np.random.Generator,
    *,
    scale: tuple[float, float],
    flip: bool,
) -> np.ndarray:
    """For training: a random part of the image at `size` x `size`, half of the time mirrored.

    Args:
        image: uint8 [H, W, 3].
        size: pixels.
        generator: the only source of randomness.
        scale: least and greatest share of the image's area, in (0, 1].
        flip: whether to mirror at all.
    """
    _check(image)
    height, width = image.shape[:2]
    box = random_box(height, width, generator, scale)
    image = image[box.top : box.top + box.height, box.left : box.left + box.width]
    image = _resize(image, size, size)
    if flip and generator.random() < 0.5:
        image = image[:, ::-1]
    return image


def resize_and_crop(image: np.ndarray, size: int) -> np.ndarray:
    """For evaluation: the short side resized to `size`, then the central square.

    An image of exactly this size comes back unchanged. The crop's offset is rounded half to even,
    as torchvision does; transformers rounds it down, one pixel away where 4n + 3 lines are to be
    cut. The same pixels as torchvision's, in memory for `size` lines of the image, not for all of a strip resized.
    """
    _check(image)
    image = _cut_strip(image)
    height, width = image.shape[:2]
    short = min(height, width)
    resized = (int(size * height / short), int(size * width / short))
    if height > STRIP * width:
        columns = _resize(image, height, size).swapaxes(0, 1)
        return _middle(columns, resized[0], size).swapaxes(0, 1)
    if width > STRIP * height:
        return _resize(_middle(image, resized[1], size), size, size)
    image = _resize(image, *resized)
    top = round((image.shape[0] - size) / 2)
    left = round((image.shape[1] - size) / 2)
    return image[top : top + size, left : left + size]


def _middle(lines: np.ndarray, length: int, size: int) -> np.ndarray:
    """The middle [N, size, 3] of lines of pixels [N, M, 3], resized to `length`, some at a time.

    Pillow resizes along the lines first and across them after, with 8 bits between: in parts it is the same.
    """
    left = round((length - size) / 2)
    some = max(1, AT_ONCE // length)
    parts = (lines[first : first + some] for first in range(0, len(lines), some))
    return np.concatenate([_resize(part, len(part), length)[:, left : left + size] for part in parts])


def random_box(height: int, width: int, generator: np.random.Generator, scale: tuple[float, float]) -> Box:
    """A box of uniform area share in `scale` and log-uniform aspect in `RATIO`, anywhere.

    Where `TRIES` boxes in a row do not fit, the largest central box whose aspect is in `RATIO`.
    """
    for _ in range(TRIES):
        area = height * width * generator.uniform(*scale)
        aspect = math.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        box_width = round(math.sqrt(area * aspect))
        box_height = round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(generator.integers(height - box_height + 1))
            left = int(generator.integers(width - box_width + 1))
            return Box(top, left, box_height, box_width)
    box_width = min(width, round(height * RATIO[1]))
    box_height = min(height, round(width / RATIO[0]))
    return Box((height - box_height) // 2, (width - box_width) // 2, box_height, box_width)


def _cut_strip(image: np.ndarray) -> np.ndarray:
    """The middle of an image that is more than `LONGEST` times as long as wide; others as they are."""
    longest = LONGEST * min(image.shape[:2])
    cut = [max(0, side - longest) // 2 for side in image.shape[:2]]
    return image[cut[0] : cut[0] + longest, cut[1] : cut[1] + longest]


def _resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _check(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: expected uint8 [H, W, 3], got {image.dtype} {image.shape}")
