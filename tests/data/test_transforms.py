"""Preprocessing follows torchvision in law (training) and to the pixel (evaluation)."""

import math

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPImageProcessorPil

from dear_jax.data import transforms


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def distance_from_uniform(samples: list[float]) -> float:
    """Kolmogorov-Smirnov's statistic against the uniform law on [0, 1], times sqrt(n)."""
    ordered = np.sort(samples)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    gap = max(np.max(steps[1:] - ordered), np.max(ordered - steps[:-1]))
    return gap * math.sqrt(len(ordered))


# Sizes at which torchvision and transformers cut at the same line (see `resize_and_crop`).
@pytest.mark.parametrize("shape", [(224, 224), (300, 224), (500, 333), (101, 67), (64, 48), (1000, 250)])
@pytest.mark.parametrize("upright", [True, False])
def test_evaluation_equals_transformers(shape, upright):
    image = noise(*(shape if upright else shape[::-1]))
    reference = CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
    expected = reference(Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    ours = transforms.resize_and_crop(image, 224)
    assert ours.shape == (224, 224, 3)
    assert ours.dtype == np.uint8
    difference = np.abs(ours.astype(float) - np.moveaxis(expected, 0, -1))
    assert difference.mean() < 1.0  # of 255


def torchvision_pixels(image: np.ndarray, size: int) -> np.ndarray:
    """`Resize(size, BICUBIC)` and `CenterCrop(size)` of torchvision on Pillow images, as their source has it."""
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    new_long = int(size * long / short)
    new_height, new_width = (new_long, size) if width == short else (size, new_long)
    resized = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BICUBIC)
    top, left = round((new_height - size) / 2.0), round((new_width - size) / 2.0)
    return np.asarray(resized)[top : top + size, left : left + size]


@pytest.mark.parametrize("shape", [(300, 224), (101, 67), (9, 288), (9, 289), (3, 1000), (1, 2000), (37, 3011)])
@pytest.mark.parametrize("upright", [True, False])
def test_evaluation_has_the_pixels_of_torchvision(shape, upright):
    image = noise(*(shape if upright else shape[::-1]))
    np.testing.assert_array_equal(transforms.resize_and_crop(image, 48), torchvision_pixels(image, 48))


@pytest.mark.parametrize(("height", "offset"), [(8, 0), (9, 0), (10, 1), (11, 2), (12, 2), (13, 2), (15, 4)])
def test_center_crop_rounds_as_torchvision(height, offset):
    image = noise(height, 8)  # the short side fits: no resampling
    ours = transforms.resize_and_crop(image, 8)
    np.testing.assert_array_equal(ours, image[offset : offset + 8])
    ours = transforms.resize_and_crop(image.swapaxes(0, 1), 8)
    np.testing.assert_array_equal(ours, image.swapaxes(0, 1)[:, offset : offset + 8])


@pytest.mark.parametrize(("height", "width"), [(37, 53), (5, 9), (1, 7), (48, 48), (300, 200)])
def test_evaluation_gives_the_size_of_the_model(height, width):
    assert transforms.resize_and_crop(noise(height, width), 48).shape == (48, 48, 3)


def test_evaluation_leaves_images_of_the_right_size_alone():
    image = noise(48, 48)
    np.testing.assert_array_equal(transforms.resize_and_crop(image, 48), image)


def test_random_box_has_the_law_of_torchvision():
    generator = np.random.default_rng(0)
    low, high = 0.1, 0.3  # every box fits into this image, so that no draw is rejected
    boxes = [transforms.random_box(2000, 2000, generator, (low, high)) for _ in range(3000)]
    shares = [(box.height * box.width / 2000**2 - low) / (high - low) for box in boxes]
    bounds = [math.log(bound) for bound in transforms.RATIO]
    aspects = [(math.log(box.width / box.height) - bounds[0]) / (bounds[1] - bounds[0]) for box in boxes]
    tops = [box.top / (2000 - box.height) for box in boxes]
    lefts = [box.left / (2000 - box.width) for box in boxes]
    for samples in (shares, aspects, tops, lefts):
        assert distance_from_uniform(samples) < 1.95  # exceeded once in 1,000 by the true law
    together = np.corrcoef([shares, aspects, tops, lefts]) - np.eye(4)
    assert np.abs(together).max() < 3.3 / math.sqrt(3000)  # the same level


def test_random_box_stays_inside_and_reaches_the_border():
    generator = np.random.default_rng(0)
    boxes = np.array([transforms.random_box(6, 9, generator, (0.08, 1.0)) for _ in range(2000)])
    top, left, height, width = boxes.T
    assert min(top.min(), left.min()) == 0
    assert min(height.min(), width.min()) >= 1
    assert (top + height).max() == 6
    assert (left + width).max() == 9


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [  # by torchvision's fallback: the largest central box with an aspect of 3/4 to 4/3
        (100, 20, (36, 0, 27, 20)),
        (20, 100, (0, 36, 20, 27)),
        (1, 50, (0, 24, 1, 1)),
    ],
)
def test_random_box_falls_back_to_the_center(height, width, box):
    generator = np.random.default_rng(0)
    assert transforms.random_box(height, width, generator, (0.5, 1.0)) == box


def test_augment_is_crop_resize_flip():
    image = noise(40, 70)
    flips = 0
    for seed in range(200):
        ours = transforms.augment(image, 16, np.random.default_rng(seed), scale=(0.3, 0.9), flip=True)
        box = transforms.random_box(40, 70, np.random.default_rng(seed), (0.3, 0.9))
        part = Image.fromarray(image).crop((box.left, box.top, box.left + box.width, box.top + box.height))
        expected = np.asarray(part.resize((16, 16), Image.Resampling.BICUBIC))
        flipped = not np.array_equal(ours, expected)
        np.testing.assert_array_equal(ours, expected[:, ::-1] if flipped else expected)
        flips += flipped
    assert 70 < flips < 130  # of 200 fair coins: beyond four standard deviations


def test_no_flip_where_none_is_asked_for():
    image = np.tile(np.arange(32, dtype=np.uint8)[None, :, None], (32, 1, 3))  # rises to the right
    for seed in range(30):
        ours = transforms.augment(image, 8, np.random.default_rng(seed), scale=(0.5, 1), flip=False)
        assert (np.diff(ours[..., 0].astype(int), axis=1) > 0).all()


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        transforms.resize_and_crop(image, 4)
