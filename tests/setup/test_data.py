"""From plans to classes: which names are refused."""

import dataclasses

import pytest

from configs import base
from dear_jax.clip.checkpoints import weights
from dear_jax.data.loading import load_dataset
from dear_jax.errors import UserError
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
