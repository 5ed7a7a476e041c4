"""Which values a config may have: every key in its range, in every variant, all problems in one message."""

from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from dear_jax.data.loading import SOURCES
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserErrors
from dear_jax.methods import paths
from dear_jax.roles.options import Options
from dear_jax.setup import methods, recipes, values, variants
from dear_jax.setup.backbones import DTYPES
from dear_jax.setup.data import MEASURED_SPLITS
from dear_jax.training import optimizer


def check(config: ConfigDict, trains: bool) -> None:
    """Refuse values outside their range.

    Args:
        config: the resolved config.
        trains: whether the job trains, so that the keys of a method and of the variants count.

    Raises:
        UserErrors: every offending key with its value and what is expected.
    """
    configs = variants.variant_configs(config).values() if trains else [config]
    problems = [text for variant in configs for text in _problems(variant, trains)]
    if problems:
        raise UserErrors(list(dict.fromkeys(problems)))
    if config.eval.new_classes:
        paths.parse_rule(config.eval.new_classes)
    values.read(Options, config.roles).check()


def _problems(config: ConfigDict, trains: bool) -> list[str]:
    rules = values.out_of_range(_rules(config))
    if trains:
        name = config.method
        entry = methods.find(name)
        own = entry.problems(values.read(entry.Options, config[name]))
        rules |= {f"{name}.{key}": expected for key, expected in own.items()}
    return [f"config.{key} is {_lookup(config, key)!r}, expected {expected}" for key, expected in rules.items()]


def _rules(config: ConfigDict) -> dict[str, tuple[bool, str]]:
    """Key -> whether it is in its range, and the range."""
    recipe = recipes.of(config.method, config.protocol, config.data.dataset, config.data.shots)
    fitted = recipe["train.epochs"] == 0  # without steps
    none = f"0: {config.method} is fitted to its images at once, without steps"
    return {
        "protocol": (config.protocol in PROTOCOLS, f"one of {', '.join(PROTOCOLS)}"),
        "seeds": (
            _are_seeds(config.seeds),
            "one or more different integers of 0 to 2^32 - 1, such as 1,2,3",
        ),
        "optimizer.name": (config.optimizer.name in optimizer.NAMES, f"one of {', '.join(optimizer.NAMES)}"),
        "optimizer.schedule": (
            config.optimizer.schedule in optimizer.SCHEDULES,
            f"one of {', '.join(optimizer.SCHEDULES)}",
        ),
        "optimizer.final_learning_rate": (config.optimizer.final_learning_rate >= 0, "0 or more"),
        "optimizer.epsilon": (config.optimizer.epsilon > 0, "a positive number"),
        "optimizer.momentum": (0 <= config.optimizer.momentum < 1, "a number in [0, 1)"),
        "optimizer.learning_rate": (config.optimizer.learning_rate > 0, "a positive number"),
        "optimizer.weight_decay": (config.optimizer.weight_decay >= 0, "0 or more"),
        "optimizer.warmup_epochs": (config.optimizer.warmup_epochs >= 0, "0 or more"),
        "optimizer.warmup_learning_rate": (config.optimizer.warmup_learning_rate >= 0, "0 or more"),
        "train.epochs": (config.train.epochs == 0, none) if fitted else (config.train.epochs >= 1, "1 or more"),
        "train.share": (config.train.share > 0, "a positive number"),
        "train.steps": (
            (config.train.steps == 0, none)
            if fitted
            else (config.train.steps >= 0, "0 (the epochs count) or more")
        ),
        "train.batch_size": (config.train.batch_size >= 1, "1 or more"),
        "train.log_every": (config.train.log_every >= 1, "1 or more"),
        "train.checkpoint_every": (config.train.checkpoint_every >= 0, "0 (once an epoch, 20 at most) or more"),
        "train.keep_checkpoints": (config.train.keep_checkpoints >= 1, "1 or more"),
        "eval.split": (config.eval.split in MEASURED_SPLITS, f"one of {', '.join(MEASURED_SPLITS)}"),
        "eval.batch_size": (config.eval.batch_size >= 1, "1 or more"),
        "select.folds": (config.select.folds >= 2 and config.select.folds % 2 == 0, "an even number, 2 or more"),
        "select.images": (config.select.images >= 1, "1 or more images per class"),
        "select.seed": (config.select.seed >= 0, "0 or more"),
        "predict.shown": (config.predict.shown >= 0, "0 or more"),
        "retrieve.queries": (config.retrieve.queries >= 1, "1 or more"),
        "retrieve.seed": (config.retrieve.seed >= 0, "0 or more"),
        "retrieve.top": (config.retrieve.top >= 1, "1 or more"),
        "retrieve.shown": (config.retrieve.shown >= 1, "1 or more"),
        "roles.attributes": (
            0 < len(config.roles.attributes) == len(set(config.roles.attributes)),
            "one or more different names",
        ),
        "roles.top_images": (config.roles.top_images >= 1, "1 or more"),
        "data.source": (config.data.source in SOURCES, f"one of {', '.join(SOURCES)}"),
        "data.shots": (config.data.shots >= 1, "1 or more training images per class"),
        "data.crop_scale": (
            _are_shares(config.data.crop_scale),
            "the least and the greatest area share of the random crop, 0 < least <= greatest <= 1",
        ),
        "data.workers": (config.data.workers >= 0, "0 or more"),
        "data.cache_gb": (config.data.cache_gb >= 0, "0 or more"),
        "compute.class_chunk": (config.compute.class_chunk >= 0, "0 (as many as fit) or more"),
        "compute.dtype": (config.compute.dtype in DTYPES, f"one of {', '.join(DTYPES)}"),
    }


def _are_seeds(seeds: Sequence[int]) -> bool:
    return 0 < len(seeds) == len(set(seeds)) and all(isinstance(s, int) and 0 <= s < 2**32 for s in seeds)


def _are_shares(scale: Sequence[float]) -> bool:
    return len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1


def _lookup(config: ConfigDict, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value[part]
    return value
