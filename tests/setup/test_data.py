"""From plans to classes and images: which names, kept splits and unreadable images are refused."""

import dataclasses

import numpy as np
import pytest

from configs import base
from dear_jax.clip.checkpoints import weights
from dear_jax.data.loading import Places, load_dataset
from dear_jax.errors import UserError
from dear_jax.files.workdir import Workdir
from dear_jax.setup import data


@pytest.mark.parametrize("twins", [("sea lion", "Sea  Lion"), ("caf\u00e9", "cafe\u0301"), ("a & b", "a &amp; b")])
def test_names_of_one_prompt_are_refused_unless_the_data_set_is_known_to_have_them(twins):
    config = base.get_config()
    config.data.dataset, config.train.batch_size = "world_objects", 4
    backbone, dataset = weights.load_backbone("embedded"), load_dataset("world_objects")
    dataset = dataclasses.replace(dataset, class_names=(*twins, *dataset.class_names[2:]))
    with pytest.raises(UserError, match=r"Classes 0 .* and 1 .* give the same prompt"):
        data.make_task(data.read(config), dataset, backbone)
    known = dataclasses.replace(dataset, distinct_names=False)  # as ImageNet's row says
    assert data.make_task(data.read(config), known, backbone).trained_on.class_names[:2] == twins


@pytest.mark.parametrize("content", ["null", "[]", '"train"', "3"])
def test_kept_splits_that_are_none_are_not_drawn_anew(content, tmp_path):
    config = base.get_config()
    config.data.dataset, config.train.batch_size = "world_objects", 4
    with Workdir(tmp_path) as files:
        (tmp_path / "splits.json").write_text(content)
        with pytest.raises(UserError, match=r"splits\.json holds \w+, expected a JSON object"):
            data.open_dataset(data.read(config), files)
    assert (tmp_path / "splits.json").read_text() == content


def test_a_class_whose_test_images_are_all_left_out_is_named():
    config = base.get_config()
    config.data.dataset, config.train.batch_size = "world_objects", 4
    plan = data.read(config)
    plan = dataclasses.replace(plan, places=Places(skip_bad=True))
    dataset = load_dataset("world_objects")
    few = dataset.test.subset([int(np.flatnonzero(dataset.test.labels == label)[0]) for label in range(3)])

    def load(index: int) -> np.ndarray:
        if index == 1:
            raise UserError("The image 1 cannot be read.")
        return few.load(index)

    names = dataset.class_names[:3]
    dataset = dataclasses.replace(dataset.keep_classes(range(3)), test=dataclasses.replace(few, load=load))
    with pytest.raises(UserError, match=rf"No test image of class '{names[1]}' can be read: The image 1 cannot"):
        data.make_task(plan, dataset, weights.load_backbone("embedded"))
