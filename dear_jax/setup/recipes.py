"""The recipe of each method: what the keys that a config leaves open (None) are, by protocol, data set and shots.

`COMMON` holds for every method; its module's own `recipe` comes on top. Whatever a config or the command line gives
stays as given.
"""

import math
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dear_jax.errors import UserErrors
from dear_jax.setup import methods, ranges, selection, values

REMARK = "remark"  # no key of the config: what a user should be told of a recipe
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
    """All keys of a recipe, with their values, and `REMARK` where it has one.

    Raises:
        UserError: there is no method of that name.
    """
    return {**COMMON, **methods.find(method).recipe(protocol, dataset, shots)}


def resolve(config: ConfigDict) -> ConfigDict:
    """A locked copy of the config, with what its selection has chosen, in which no key of the recipe is open.

    Raises:
        UserError: there is no method of that name; a selection that does not fit; a share that is no number.
    """
    if broken := ranges.problems(config, ("train.share", "selection")):
        raise UserErrors(ranges.messages(config, broken))
    config = selection.apply(config)
    recipe, given = _of(config), values.flat_values(config)
    recipe.pop(REMARK, None)
    recipe |= _shortened(recipe, config.train.share, config.method)
    if given["train.epochs"] is not None:  # whoever asks for epochs does not get a recipe's steps in their place
        recipe["train.steps"] = COMMON["train.steps"]
    return values.set_open(config, {key: value for key, value in recipe.items() if given[key] is None})


def is_length_given(config: ConfigDict) -> bool:
    """Whether a config says how long to train, so that no share of the recipe counts."""
    return config.train.epochs is not None or config.train.steps is not None


def _shortened(recipe: Mapping[str, Any], share: float, method: str) -> dict[str, Any]:
    """The keys of a recipe that say how long it is, where a run takes a share of it."""
    whole = {key: math.ceil(share * recipe[key]) for key in ("train.epochs", "train.steps")}
    own = (f"{method}.{key}" for key in getattr(methods.find(method), "IN_EPOCHS", ()))
    return whole | {key: share * recipe[key] for key in own}


def remarks(config: ConfigDict) -> list[str]:
    """What a user should be told of the recipe of a config.

    Raises:
        UserError: there is no method of that name.
    """
    recipe = _of(config)
    return [recipe[REMARK]] if REMARK in recipe else []


def trial(config: ConfigDict) -> str:
    """That a training of a resolved config is too short to show what its method does; empty where it is not."""
    epochs, warmup = config.train.epochs, config.optimizer.warmup_epochs
    rates = config.optimizer.warmup_learning_rate, config.optimizer.learning_rate
    if config.train.steps or not 0 < epochs <= warmup or rates[0] >= rates[1]:
        return ""
    which = "the one epoch is" if epochs == 1 else f"all {epochs} epochs are"
    return (
        f"A trial: {which} warm-up, at the learning rate {rates[0]:g} instead of {rates[1]:g}, so that next to nothing "
        "is learned. What starts at random is untrained, as the attribute paths of DeAR: what color, shape, ... say by "
        "themselves means nothing yet."
    )


def _of(config: ConfigDict) -> dict[str, Any]:
    return of(config.method, config.protocol, config.data.dataset, config.data.shots)
