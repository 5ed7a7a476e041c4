"""Every row of the table loads, and is fit for the few-shot protocols."""

import numpy as np
import pytest

from dear_jax.data import splits
from dear_jax.data.datasets import DATASETS
from dear_jax.data.loading import load_dataset
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
