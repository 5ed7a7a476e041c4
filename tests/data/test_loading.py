"""Which source serves a data set, what its notes say, and what is wrong with it, as data."""

import dataclasses
import json

import numpy as np
import pytest

from dear_jax.data import loading
from dear_jax.data.datasets import DATASETS
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.loading import Places, load_dataset, problems
from dear_jax.errors import UserError


def test_auto_takes_the_folders_where_a_root_is_given_else_tfds(tmp_path, write_layout, monkeypatch):
    write_layout("eurosat", tmp_path)
    assert load_dataset("eurosat", Places(root=str(tmp_path))).notes["source"] == "coop"
    asked = []
    monkeypatch.setattr(loading.tfds_source, "load", lambda *arguments, **_: asked.append(arguments[0]))
    for places in (Places(), Places("tfds", str(tmp_path))):
        with pytest.raises(AttributeError):  # there is no data set to describe
            load_dataset("eurosat", places)
    assert asked == ["eurosat", "eurosat"]


@pytest.mark.parametrize("places", [Places(), Places("coop", "/nowhere"), Places("tfds", "/nowhere")])
def test_the_world_needs_no_source(places):
    notes = load_dataset("world_objects", places).notes
    assert (notes["source"], notes["comparable"], notes["remark"]) == ("world", False, "")


def test_unknown_source():
    with pytest.raises(UserError, match=r"data\.source: expected one of auto, coop, tfds, folder, hf, found 'drive'"):
        load_dataset("dtd", Places("drive"))


@pytest.mark.parametrize(
    ("name", "message"), [("fgvc_aircraft", "is not in TFDS"), ("folder", "one folder of images"), ("hf", "USER/DATA")]
)
def test_what_needs_a_root_says_so(name, message):
    with pytest.raises(UserError, match=message):
        load_dataset(name)


def test_notes_are_what_results_need(tmp_path, write_layout):
    write_layout("eurosat", tmp_path)
    notes = load_dataset("eurosat", Places(root=str(tmp_path))).notes
    assert json.loads(json.dumps(notes)) == notes
    assert notes["name"] == "eurosat"
    assert notes["splits"] == "split_zhou_EuroSAT.json"
    assert len(notes["splits_sha256"]) == 64
    assert notes["images"] == {"train": 20, "val": 10, "test": 10}
    assert notes["remark"] == (
        "Not comparable with published tables: those have 13500 train, 5400 val and 8100 test images."
    )


def dataset(train, test, names=("a", "b", "c")) -> ImageDataset:
    def split(labels):
        return ImageSplit(np.array(labels, int), lambda index: np.zeros((1, 1, 3), np.uint8))

    return ImageDataset("mine", names, "a {}", split(train), split([]), split(test))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (dataset([0, 1, 2], [0, 1, 2]), []),
        (dataset([], [0, 1, 2]), []),  # for testing only
        (dataset([0, 2], [0, 1, 2]), ["mine: 1 class has no train image: b. Add images, or"]),
        (dataset([0, 1, 2], [2]), ["mine: 2 classes have no test image: a, b. Add images, or"]),
        (dataset([0, 1, 2], []), ["mine: there is no test image."]),
        (
            dataset([0, 1], [0, 2], ("a", "_", "b")),
            [
                "Class 1 has an empty name, '_'",
                "mine: 1 class has no train image: b",
                "mine: 1 class has no test image: _",
            ],
        ),
    ],
)
def test_problems_are_listed(given, expected):
    found = problems(given)
    assert len(found) == len(expected)
    for problem, start in zip(found, expected, strict=True):
        assert problem.startswith(start)


def test_what_is_missing_can_be_had_without_a_refusal(tmp_path, write_layout):
    folder = write_layout("eurosat", tmp_path)
    (folder / "2750" / "class_3" / "test_0.jpg").unlink()
    found = load_dataset("eurosat", Places(root=str(tmp_path), skip_bad=True))
    assert found.missing == (str(folder / "2750" / "class_3" / "test_0.jpg"),)
    assert found.counts()["train"] == [2] * 10


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if row.layout])
def test_rows_are_whole(name):
    row = DATASETS[name]
    assert row.template.count("{}") == 1
    assert row.classes > 0
    assert row.images[2] > 0
    assert bool(row.split_file) == (row.layout == "split file")
    assert (row.layout in ("wnids", "indices")) == (not row.distinct_names)
    if row.tfds:
        assert row.tfds.count(":") == 1


def test_the_digest_of_a_listing_sees_names_labels_and_classes(tmp_path, write_layout):
    write_layout("eurosat", tmp_path / "one")
    write_layout("eurosat", tmp_path / "other")
    first, again = (load_dataset("eurosat", Places(root=str(tmp_path / name))) for name in ("one", "other"))
    assert first.notes["listing_sha256"] == again.notes["listing_sha256"]
    paths = first.train.load.paths
    for changed in (
        {"class_names": first.class_names[::-1]},
        {"train": first.train.subset(range(len(first.train) - 1))},
        {"train": ImageSplit(first.train.labels, dataclasses.replace(first.train.load, paths=("x.jpg", *paths[1:])))},
    ):
        assert loading.listing_digest(dataclasses.replace(first, **changed)) != first.notes["listing_sha256"]


def test_imagenets_validation_images_are_its_test_images(tmp_path, write_layout):
    for name, expected in (("imagenet", True), ("oxford_pets", False)):
        write_layout(name, tmp_path)
        dataset = load_dataset(name, Places(root=str(tmp_path)))
        assert loading.same_images(dataset.val, dataset.test) is expected
    world = load_dataset("world_objects")
    assert not loading.same_images(world.val, world.test)
