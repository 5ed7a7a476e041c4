"""The few-shot draw and the base/new halves are those of the CoOp family, image by image."""

import gzip
import json

import numpy as np
import pytest

from dear_jax.data import splits
from dear_jax.errors import UserError
from tests.repository import SHARED

PUBLISHED = SHARED / "data" / "coop"
SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)

TRAIN = [2, 0, 2, 1, 0, 2, 2, 0, 1, 2, 0, 0, 2, 1, 2, 0]  # label 1 has three images only
VAL = [1, 0, 2, 0, 1, 2, 0, 1, 1, 2, 1, 2, 0, 2, 0, 1, 1]


def read(name: str):
    with gzip.open(PUBLISHED / name) as file:
        return json.load(file)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published splits are not at hand")
@pytest.mark.parametrize(
    ("split_file", "draw_file", "image_folder"),
    [
        ("split_zhou_OxfordPets.json.gz", "fewshot_oxford_pets.json.gz", "images/"),
        ("split_zhou_DescribableTextures.json.gz", "fewshot_dtd.json.gz", "images/"),
    ],
)
def test_draws_are_the_published_ones(split_file, draw_file, image_folder):
    split, published = read(split_file), read(draw_file)
    labels = {part: [label for _, label, _ in split[part]] for part in ("train", "val")}
    for shots in SHOTS:
        for seed in SEEDS:
            drawn = splits.few_shot(labels["train"], labels["val"], shots, seed)
            for part, indices in zip(("train", "val"), drawn, strict=True):
                paths = [image_folder + split[part][index][0] for index in indices]
                assert paths == [path for path, _, _ in published[f"{shots}-{seed}"][part]]


@pytest.mark.parametrize(
    ("shots", "seed", "train", "val"),
    [  # made by running CoOp's `generate_fewshot_dataset` on TRAIN and VAL
        (2, 1, [2, 9, 1, 7, 3, 8], [16, 8, 12, 14, 5, 2]),
        (
            4,
            2,
            [14, 0, 12, 9, 7, 4, 15, 11, 3, 8, 13],
            [10, 4, 16, 0, 14, 3, 12, 6, 13, 9, 11, 5],
        ),
        (
            5,
            3,
            [2, 9, 12, 14, 6, 11, 10, 1, 7, 15, 3, 8, 13],
            [16, 8, 7, 4, 3, 12, 6, 14, 11, 5, 2, 9],
        ),
    ],
)
def test_draws_of_a_small_example(shots, seed, train, val):
    drawn_train, drawn_val = splits.few_shot(TRAIN, VAL, shots, seed)
    assert drawn_train.tolist() == train
    assert drawn_val.tolist() == val


def test_draw_without_validation_images():
    train, val = splits.few_shot(TRAIN, [], 2, 1)
    np.testing.assert_array_equal(train, splits.few_shot(TRAIN, VAL, 2, 1)[0])
    assert val.size == 0


def test_short_classes_are_named():
    assert splits.short_classes(TRAIN, 3) == []
    assert splits.short_classes(TRAIN, 4) == [1]
    assert splits.short_classes(TRAIN, 16) == [0, 1, 2]


def test_no_shots_are_refused():
    with pytest.raises(UserError, match=r"data\.shots.*found 0"):
        splits.few_shot(TRAIN, VAL, 0, 1)


def test_base_takes_the_lowest_labels_and_the_odd_one():
    assert splits.base_new([4, 4, 0, 3, 0, 2, 1]) == ([0, 1, 2], [3, 4])
    assert splits.base_new([30, 7, 30, 9, 8]) == ([7, 8], [9, 30])


@pytest.mark.parametrize("labels", [[], [5, 5, 5]])
def test_base_new_needs_two_classes(labels):
    with pytest.raises(UserError, match="at least two classes"):
        splits.base_new(labels)


def test_random_splits_are_of_each_class_and_of_the_seed():
    labels = [1] * 10 + [0] * 3 + [2] * 2
    drawn = splits.random_splits(labels, 0, ("a", "b", "c"))
    assert sorted(index for indices in drawn.values() for index in indices) == list(range(15))
    shares = {name: np.bincount(np.array(labels)[indices]).tolist() for name, indices in drawn.items()}
    assert shares == {"train": [2, 5, 1], "val": [0, 2], "test": [1, 3, 1]}
    assert splits.random_splits(labels, 0, ("a", "b", "c")) == drawn
    assert splits.random_splits(labels, 1, ("a", "b", "c")) != drawn


def test_a_class_of_one_image_cannot_be_split():
    with pytest.raises(UserError, match=r"1 class has a single image.*: b"):
        splits.random_splits([0, 0, 1], 0, ("a", "b"))


def test_more_validation_images_leave_the_training_draw_as_it_is():
    train, val = splits.few_shot(TRAIN, VAL, 5, 3, val_shots=5)
    np.testing.assert_array_equal(train, splits.few_shot(TRAIN, VAL, 5, 3)[0])
    assert np.bincount(np.array(VAL)[val]).tolist() == [5, 5, 5]
    assert len(set(val.tolist())) == len(val)
