"""Unreadable images are left out, counted, and replaced where they were drawn."""

import numpy as np
import pytest

from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.skipping import Checked
from dear_jax.errors import UserError

LABELS = np.repeat([0, 1], 5)
NAMES = ("cat", "dog")


def split(bad: set[int], calls: list[int] | None = None) -> ImageSplit:
    def load(index: int) -> np.ndarray:
        if calls is not None:
            calls.append(index)
        if index in bad:
            raise UserError(f"image {index} is bad")
        return np.full((1, 1, 3), index, np.uint8)

    return ImageSplit(LABELS, load)


def test_readable_images_keep_their_order():
    checked = Checked(split({3, 7}))
    readable = checked.readable()
    assert [readable.load(index)[0, 0, 0] for index in range(len(readable))] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert readable.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert checked.bad == {3: "image 3 is bad", 7: "image 7 is bad"}


def test_a_bad_image_is_replaced_by_the_next_undrawn_of_its_class():
    checked = Checked(split({0, 3, 9}))
    assert checked.redraw([4, 3, 1, 8, 9], NAMES).tolist() == [4, 2, 1, 8, 5]
    assert checked.bad.keys() == {0, 3, 9}  # image 0 was tried and found bad


def test_a_good_draw_stays_and_reads_nothing_twice():
    calls: list[int] = []
    checked = Checked(split({3}, calls))
    for _ in range(2):
        assert checked.redraw([6, 1, 0], NAMES).tolist() == [6, 1, 0]
    assert sorted(calls) == [0, 1, 6]


def test_a_class_without_another_image_gives_fewer():
    assert Checked(split({0, 1, 2})).redraw([0, 1, 2, 3, 4, 5], NAMES).tolist() == [3, 4, 5]


def test_a_class_of_bad_images_is_refused():
    with pytest.raises(UserError, match="No training image of class 'cat' can be read: image 0 is bad"):
        Checked(split({0, 1, 2, 3, 4})).redraw([0, 7], NAMES)


def test_other_errors_are_bugs():
    def load(index: int) -> np.ndarray:
        raise KeyError(index)

    with pytest.raises(KeyError):
        Checked(ImageSplit(LABELS, load)).readable()
