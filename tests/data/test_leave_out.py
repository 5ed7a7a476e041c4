"""Folds of the training side of a data set: who is trained on, who is measured, and that no test image is loaded."""

import numpy as np
import pytest

from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.leave_out import make_folds
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserError


def never(index: int) -> np.ndarray:
    raise AssertionError("a test image was loaded")


def split(counts: list[int], offset: int) -> ImageSplit:
    """Images that are called after their place: one pixel of that brightness."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return ImageSplit(labels, lambda index: np.full((1, 1, 3), offset + index, np.uint8))


def dataset(train: list[int], val: list[int]) -> ImageDataset:
    names = tuple(f"class {number}" for number in range(len(train)))
    test = ImageSplit(np.arange(len(train)), never)
    return ImageDataset("toy", names, "a photo of a {}.", split(train, 0), split(val, 100), test)


def pixels(images: ImageSplit) -> list[int]:
    return [int(images.load(index)[0, 0, 0]) for index in range(len(images))]


def folds_of(data: ImageDataset, protocol: str = "base2new", shots: int = 2, count: int = 4, images: int = 3):
    return make_folds(data, PROTOCOLS[protocol], shots, count, images, seed=0)


def test_held_out_images_are_validation_and_spare_training_images():
    fold, *_ = folds_of(dataset([6] * 8, [1] * 8))
    base = range(4)  # the half that base-to-new trains on
    np.testing.assert_array_equal(np.bincount(fold.dataset.test.labels, minlength=8), [3, 3, 3, 3, 0, 0, 0, 0])
    measured, trained = pixels(fold.dataset.test), pixels(fold.dataset.train)
    assert set(measured) & set(trained) == set()
    assert {100, 101, 102, 103} <= set(measured)  # all validation images of these classes
    assert sorted(set(measured + trained) - {100, 101, 102, 103}) == list(range(48))
    assert [np.sum(fold.dataset.train.labels == label) for label in base] == [4] * 4  # 2 shots can be drawn
    assert not len(fold.dataset.val)


def test_folds_come_in_pairs_of_equal_shape_and_every_class_is_on_both_sides():
    for classes in (8, 10, 11):
        folds = folds_of(dataset([6] * classes, [1] * classes))
        sets = [fold.protocol.class_sets(fold.dataset) for fold in folds]
        base = -(-classes // 2)
        assert len({(len(one["base"]), len(one["new"])) for one in sets}) == 1
        for one in sets:
            assert sorted([*one["base"], *one["new"]]) == list(range(base))
        for first, second in (sets[:2], sets[2:]):
            assert set(first["base"]) & set(second["base"]) == set()
        assert sets[0] != sets[2]
        assert folds[0].protocol.columns == ("base", "new", "hm")


@pytest.mark.parametrize("protocol", ["cross_dataset", "domain_generalization"])
def test_what_transfers_leaves_out_half_of_all_classes(protocol):
    fold, *_ = folds_of(dataset([6] * 8, [0] * 8), protocol)
    assert [len(labels) for labels in fold.protocol.class_sets(fold.dataset).values()] == [4, 4]


def test_few_shot_has_one_fold_of_all_classes():
    (fold,) = folds_of(dataset([6] * 8, [5] * 8), "few_shot")
    assert list(fold.protocol.class_sets(fold.dataset)) == ["accuracy"]
    np.testing.assert_array_equal(np.bincount(fold.dataset.test.labels), [3] * 8)
    assert len(fold.dataset.train) == 48  # validation images are enough
    assert all(pixel >= 100 for pixel in pixels(fold.dataset.test))


def test_without_other_images_a_part_of_the_shots_is_held_out():
    (fold,) = folds_of(dataset([8, 8, 2, 3], [0] * 4), "few_shot", shots=8)
    np.testing.assert_array_equal(np.bincount(fold.dataset.test.labels), [2, 2, 1, 1])
    np.testing.assert_array_equal(np.bincount(fold.dataset.train.labels), [6, 6, 1, 2])


def test_validation_images_that_are_test_images_are_not_looked_at(monkeypatch):
    monkeypatch.setattr("dear_jax.data.leave_out.same_images", lambda one, other: True)
    (fold,) = folds_of(dataset([6] * 4, [5] * 4), "few_shot")
    assert all(pixel < 100 for pixel in pixels(fold.dataset.test))


def test_draws_are_the_same_again_and_others_with_another_seed():
    data = dataset([9] * 8, [0] * 8)
    first, again = folds_of(data), folds_of(data)
    assert [pixels(one.dataset.test) for one in first] == [pixels(one.dataset.test) for one in again]
    other = make_folds(data, PROTOCOLS["base2new"], 2, 4, 3, seed=1)
    assert pixels(first[0].dataset.test) != pixels(other[0].dataset.test)


def test_too_few_classes_or_images():
    with pytest.raises(UserError, match=r"toy has 3 of them: expected 4 or more.*few_shot"):
        folds_of(dataset([6] * 5, [0] * 5))
    with pytest.raises(UserError, match=r"1 of 4 classes of toy has a single training image.*class 2"):
        folds_of(dataset([6, 6, 1, 6], [0] * 4), "few_shot")


def test_joined_splits():
    joined = split([2, 1], 0) + split([1, 2], 100)
    assert pixels(joined) == [0, 1, 2, 100, 101, 102]
    assert joined.labels.tolist() == [0, 0, 1, 0, 1, 1]
    assert pixels(joined.keep_classes([1])) == [2, 101, 102]
    one = ImageSplit(np.zeros(1, int), never, {"a": np.array(["x"]), "b": np.array(["y"])})
    two = ImageSplit(np.zeros(1, int), never, {"b": np.array(["z"])})
    assert {name: list(found) for name, found in (one + two).attributes.items()} == {"b": ["y", "z"]}
