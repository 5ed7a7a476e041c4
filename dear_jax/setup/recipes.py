"""The recipe of each method: what the keys that a config leaves open (None) are, by protocol, data set and shots.

`COMMON` holds for every method; its module's own `recipe` comes on top. Whatever a config or the command line gives
stays as given.
"""

import copy
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dear_jax.setup import methods, values

COMMON: Mapping[str, Any] = {
    "train.epochs": 10,
    "train.steps": 0,
    "train.batch_size": 4,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 1e-3,
    "optimizer.weight_decay": 5e-4,
    "optimizer.warmup_epochs": 1,
    "optimizer.warmup_learning_rate": 1e-5,
    "optimizer.epsilon": 1e-8,
    "optimizer.momentum": 0.9,
    "optimizer.schedule": "epoch_cosine",
    "optimizer.final_learning_rate": 0.0,
    "data.crop_scale": (0.5, 1.0),
    "data.flip": True,
}


def of(method: str, protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """All keys of a recipe, with their values.

    Raises:
        UserError: there is no method of that name.
    """
    return {**COMMON, **methods.find(method).recipe(protocol, dataset, shots)}


def resolve(config: ConfigDict) -> ConfigDict:
    """A locked copy of the config in which no key of the recipe is open.

    Raises:
        UserError: there is no method of that name.
    """
    recipe = of(config.method, config.protocol, config.data.dataset, config.data.shots)
    given = values.flat_values(config)
    resolved = copy.deepcopy(config)  # keeps what the open keys are to be, for overrides of variants
    resolved.update_from_flattened_dict({key: value for key, value in recipe.items() if given[key] is None})
    return resolved.lock()
