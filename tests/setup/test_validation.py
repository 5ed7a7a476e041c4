"""Validation images of a task: how many, of which seed, and never a test image."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from dear_jax import main
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.data import loading
from dear_jax.data.class_set import FEW, SHOTS, WHOLE
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.images import FileLoader
from dear_jax.errors import UserError
from dear_jax.setup import data
from tests.repository import REPOSITORY

SEEDS = (1, 2)


def load_task(shots: int, *flags: str, protocol: str = "few_shot"):
    path = REPOSITORY / "configs" / f"{protocol}.py"
    config = main.parse([f"--config={path}:world_objects", f"--config.data.shots={shots}", *flags])[0]
    config = config.copy_and_resolve_references()
    config.seeds, config.train.batch_size = SEEDS, 4
    return data.load_task(data.read(config), load_backbone("embedded"))


def pictures(split: ImageSplit) -> list[bytes]:
    return [image.tobytes() for image in map(split.load, range(len(split)))]


@pytest.mark.parametrize(("shots", "counts"), [(1, (8, 1, 1)), (6, (8, 6, 4)), (16, (8, 8, 4))])
def test_how_many_there_are_of_each_class(shots, counts):
    task = load_task(shots)
    for which, count in zip((WHOLE, SHOTS, FEW), counts, strict=True):
        one, other = task.validation(which)
        assert np.bincount(one.labels).tolist() == [count] * 10
        assert (one is other) is (which == WHOLE)
    assert task.validation(FEW) is task.validation(FEW)


def test_they_are_of_the_classes_trained_on():
    whole = load_task(1, protocol="base2new").validation(WHOLE)[0]
    assert np.bincount(whole.labels).tolist() == [8] * 5


@pytest.fixture
def tested_on_validation(monkeypatch):
    """The data set with test images that are its validation images, as ImageNet has them, and cannot be read."""
    load = loading.load_dataset

    def load_dataset(*arguments):
        dataset = load(*arguments)
        split = ImageSplit(dataset.val.labels, FileLoader(epath.Path("absent"), tuple(map(str, range(80)))))
        return dataclasses.replace(dataset, val=split, test=split)

    monkeypatch.setattr(data, "load_dataset", load_dataset)


@pytest.mark.usefixtures("tested_on_validation")
def test_where_they_are_the_test_images_training_images_take_their_place():
    task = load_task(3)
    assert [len(split) for split in task.validation(WHOLE)] == [0, 0]
    for which in (SHOTS, FEW):
        for trained_on, split in zip(task.train, task.validation(which), strict=True):
            assert np.bincount(split.labels).tolist() == [3] * 10
            assert not set(pictures(split)) & set(pictures(trained_on))
    with pytest.raises(UserError, match="absent"):
        task.trained_on.test.load(0)


@pytest.mark.usefixtures("tested_on_validation")
def test_where_all_training_images_are_trained_on_there_are_none():
    assert [len(split) for split in load_task(32).validation(SHOTS)] == [0, 0]


def test_bad_ones_are_left_out(monkeypatch):
    monkeypatch.setattr(ImageSplit, "problem", lambda split, index: "" if index % 2 else "cannot be read")
    monkeypatch.setattr(data, "_skip_bad", lambda dataset, drawn: (dataset, drawn, {}))
    task = load_task(4, "--config.data.skip_bad=true")
    assert [len(task.validation(which)[0]) for which in (WHOLE, SHOTS, FEW)] == [40, 20, 20]
