"""Images that are in training and in test."""

import os

import numpy as np
import pytest
from etils import epath

from dear_jax.data import loading, twice, unlabelled
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.images import FileLoader
from dear_jax.data.loading import Places, load_dataset


def split(folder, *names) -> ImageSplit:
    return ImageSplit(np.zeros(len(names), int), FileLoader(epath.Path(folder), names))


@pytest.fixture
def folder(tmp_path):
    contents = {
        "a": b"1" * 9000,
        "copy of a": b"1" * 9000,
        "another head": b"2" + b"1" * 8999,
        "another tail": b"1" * 8999 + b"2",
        "short": b"1",
        "link": None,
    }
    for name, content in contents.items():
        if content is None:
            (tmp_path / name).symlink_to(tmp_path / "a")
        else:
            (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_of_the_same_content(folder):
    test = split(folder, "another head", "copy of a", "short", "link", "another tail")
    found = twice.in_both(split(folder, "a"), test)
    assert found == ["copy of a", "link"]
    assert twice.in_both(split(folder, "a", "absent"), split(folder, "absent", "short")) == []
    assert twice.in_both(split(folder, "a"), split(folder, "a")) == ["a"]


def test_files_are_known_again_by_their_marks(folder):
    marks = twice.marks([split(folder, "a", "short").subset([0]), split(folder, "link", "absent")])
    assert marks.shape == (1, twice.MARK)
    os.mkfifo(folder / "pipe")  # which nobody waits for
    names = ("copy of a", "another tail", "short", "link", "absent", "pipe")
    assert twice.marked(split(folder, *names), marks).tolist() == [True, False, False, True, False, False]
    mixed = unlabelled.gather([folder / "a", np.zeros((2, 2, 3), np.uint8)])
    assert twice.marked(mixed, marks).tolist() == [True, False]
    drawn = ImageSplit(np.zeros(1, int), lambda index: np.zeros((1, 1, 3), np.uint8))
    assert twice.marks([drawn]).shape == (0, twice.MARK)
    assert not twice.marked(drawn, marks).any()
    assert not twice.marked(split(folder, "a"), twice.marks([])).any()


def test_only_what_may_be_equal_is_read(folder, monkeypatch):
    monkeypatch.setattr(twice, "_content", lambda path: pytest.fail("read whole"))
    assert twice.in_both(split(folder, "a"), split(folder, "another tail", "short")) == []


def test_images_that_are_no_files_and_very_many_are_left_alone(folder, monkeypatch):
    drawn = ImageSplit(np.zeros(1, int), lambda index: np.zeros((1, 1, 3), np.uint8))
    assert twice.in_both(drawn, split(folder, "a")) == []
    monkeypatch.setattr(twice, "MOST", 1)
    assert twice.in_both(split(folder, "a"), split(folder, "a")) == []


def test_it_is_said_and_noted(tmp_path, write_layout, capsys):
    folder = write_layout("eurosat", tmp_path) / "2750" / "class_3"
    monkey = (folder / "train_1.jpg").read_bytes()
    (folder / "test_0.jpg").write_bytes(monkey)
    for path in sorted(folder.parent.glob("*/train_*.jpg")):  # others are alike by the layout's making
        path.write_bytes(path.read_bytes() + path.as_posix().encode())
    (folder / "train_1.jpg").write_bytes(monkey)
    note = load_dataset("eurosat", Places(root=str(tmp_path))).notes["in_train_and_test"]
    assert note == (
        "1 of 10 test images is in both training and test (files of the same content): accuracies on them mean "
        "nothing: class_3/test_0.jpg."
    )
    assert f"eurosat: {note}\n" in capsys.readouterr().out
    (folder / "train_1.jpg").write_bytes(monkey + b"1")
    assert "in_train_and_test" not in loading.load_dataset("eurosat", Places(root=str(tmp_path))).notes
