"""Every row of the table loads, and is fit for the few-shot protocols."""

import numpy as np
import pytest

from dear_jax.data import splits
from dear_jax.data.datasets import ARCHIVES, DATASETS, PUBLISHED_AT, ways
from dear_jax.data.loading import Places, load_dataset
from dear_jax.data.prompts import prompts
from dear_jax.data.world import tasks
from dear_jax.errors import UserError

# `world_scenes` has few pictures of each of its many classes: it is looked at for head roles, not trained on.
DOWNSTREAM = [name for name in DATASETS if name.startswith("world") and name != "world_scenes"]


@pytest.mark.parametrize("name", DOWNSTREAM)
def test_rows_that_need_no_files_load(name):
    dataset = load_dataset(name)
    assert dataset.name == name
    assert dataset.template == DATASETS[name].template
    count = len(dataset.class_names)
    assert len(set(prompts(dataset.class_names, dataset.template))) == count >= 4
    assert splits.short_classes(dataset.train.labels, 16) == []
    assert np.bincount(dataset.test.labels, minlength=count).min() >= 50
    for split in (dataset.train, dataset.val, dataset.test):
        assert set(split.labels.tolist()) == set(range(count))
        image = split.load(len(split) - 1)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        np.testing.assert_array_equal(image, split.load(len(split) - 1))


def test_all_tasks_of_the_world_have_a_row():
    assert set(tasks.TASKS) <= set(DATASETS)


def test_unknown_name_gets_the_list_and_the_nearest():
    with pytest.raises(UserError) as caught:
        load_dataset("world_object")
    assert all(name in str(caught.value) for name in DATASETS)
    assert "nearest name is 'world_objects'" in str(caught.value)


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if row.folder])
def test_the_ways_to_published_data_are_named_in_order(name, tmp_path):
    row = DATASETS[name]
    said = ways(row)
    archive = f"hf download {ARCHIVES} {row.archive}"
    parts = ["--config.data.source=tfds", "--config.data.source=hf", archive, PUBLISHED_AT]
    known = [part for part, is_known in zip(parts, (row.tfds, row.hub, row.archive, True), strict=True) if is_known]
    places = [said.find(part) for part in known]
    assert -1 not in places
    assert places == sorted(places)
    assert not [part for part in parts if part not in known and part in said and part != archive]
    assert ("has not checked" in said) == bool(row.hub or row.archive)
    with pytest.raises(UserError) as caught:
        load_dataset(name, Places(root=str(tmp_path / "absent")))
    assert said in str(caught.value)


def test_every_published_data_set_but_imagenet_is_an_archive_on_the_hub():
    """By name, as the list of https://huggingface.co/zhengli97/prompt_learning_dataset has them."""
    archives = {row.archive for row in DATASETS.values() if row.folder}
    assert len(archives) == 15
    assert {name for name, row in DATASETS.items() if row.folder and not row.archive} == {"imagenet"}


def test_without_a_known_copy_the_source_hf_names_the_ways():
    with pytest.raises(UserError, match=r"no copy of dtd on the Hugging Face Hub is known .* Ways to get it: \(1\) T"):
        load_dataset("dtd", Places("hf"))
