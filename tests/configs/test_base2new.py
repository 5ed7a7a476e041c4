"""The config argument alone chooses the data set, its backbone and its recipe."""

import pytest

from configs import base, base2new
from dear_jax.data.datasets import DATASETS
from dear_jax.errors import UserError


def differences(config) -> dict:
    def flat(tree, prefix=""):
        for key, value in tree.items():
            yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]

    defaults = dict(flat(base.get_config().to_dict()))
    return {key: value for key, value in flat(config.to_dict()) if value != defaults[key]}


def test_without_argument_it_is_the_embedded_world():
    assert differences(base2new.get_config()) == {}
    assert differences(base2new.get_config("world_objects")) == {"data.dataset": "world_objects"}


@pytest.mark.parametrize("name", [name for name, row in DATASETS.items() if row.layout] + ["folder"])
def test_data_sets_bring_the_published_backbone_and_recipe(name):
    recipe = {"train.epochs": 5, "train.batch_size": 32} if name == "imagenet" else {}
    expected = {"data.dataset": name, "backbone": "openai/clip-vit-base-patch16", **recipe}
    assert differences(base2new.get_config(name)) == expected


def test_the_recipe_is_that_of_the_nearest_published_method():
    config = base2new.get_config("oxford_pets")
    assert (config.data.shots, config.seeds) == (16, (1, 2, 3))
    assert (config.train.epochs, config.train.batch_size) == (10, 4)
    assert (config.optimizer.learning_rate, config.optimizer.weight_decay) == (1e-3, 5e-4)
    assert (config.optimizer.warmup_epochs, config.optimizer.warmup_learning_rate) == (1, 1e-5)
    assert config.data.crop_scale == (0.5, 1.0)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match="The nearest name is 'oxford_pets'"):
        base2new.get_config("oxford_pet")
