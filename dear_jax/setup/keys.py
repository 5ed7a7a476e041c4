"""What is to be known of config keys beside their values: earlier names, and those that a second start may change."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from dear_jax.errors import UserError
from dear_jax.files.workdir import RunConfig
from dear_jax.setup import values as config_values
from dear_jax.setup.methods import METHODS

# Earlier names of keys and groups. They stay valid on the command line, and in what earlier versions wrote.
RENAMED = {
    "tokens": "dear.tokens",
    "mask": "dear.mask",
    "loss": "dear.loss",
    "fusion.class_start": "dear.fusion.class_start",
    "fusion.new_classes": "eval.new_classes",
}
# Defaults that are spelled otherwise since methods have rules of their own: key -> what it was, what it is.
RESPELLED = {"eval.new_classes": ("learned", "")}
SINCE = "train.steps"  # a key that there is since then
# Of keys with several values: the type of each, which no default says where it is empty.
ITEMS: Mapping[str, Callable[[str], Any]] = {
    "seeds": int,
    "data.crop_scale": float,
    "dear.tokens.attributes": str,
    "eval.datasets": str,
    "eval.rules": config_values.number_or_name,
    "roles.attributes": str,
    "select.rules": str,
    "select.shares": float,
    "compute.mesh": int,
}
# A second start may change these keys: they change neither the adapter nor the results.
FREE = frozenset(
    {
        "compute.compilation_cache",
        "compute.coordinator",
        "compute.coordinator_timeout",
        "compute.distributed",
        "compute.mesh",
        "compute.process",
        "compute.processes",
        "compute.shard_backbone",
        "data.cache_gb",
        "data.workers",
        "log.profile",
        "log.tensorboard",
        "log.trackio",
        "log.wandb",
        "roles.cache",
        "roles.compare",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        "train.log_every",
    }
)


def earlier_names(key: str) -> Iterator[str]:
    """What a key was called before."""
    for old, new in RENAMED.items():
        if key == new or key.startswith(f"{new}."):
            yield old + key.removeprefix(new)


def check_group(given: Iterable[str], method: str) -> None:
    """Refuse keys of another method than the run's, which nothing would read.

    Raises:
        UserError: there is one.
    """
    for key in given:
        group = key.partition(".")[0]
        if method in METHODS and group in METHODS and group != method:
            raise UserError(
                f"config.{key} is a key of the method {group}, and config.method is {method}, which does not read it. "
                f"Leave it out, or give --config.method={group}."
            )


def current_name(key: str) -> str:
    """What a key is called today."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def run_config(config: ConfigDict) -> RunConfig:
    """What config.json is to hold, and how it compares with what an earlier start has written there."""
    values = config.to_dict()
    return RunConfig(values, FREE, lambda written: upgrade(written, values))


def upgrade(written: Any, values: Mapping[str, Any]) -> Any:
    """A config.json under today's names; a key that its version did not have is as the version of today has it."""
    if not isinstance(written, Mapping):
        return written
    return _merge(json.loads(json.dumps(values)), current(dict(_leaves(written))))


def current(written: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config as any version wrote it, under today's names."""
    config = {current_name(key): value for key, value in written.items()}
    if SINCE not in config:
        config |= {key: is_ for key, (was, is_) in RESPELLED.items() if config.get(key) == was}
    return config


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _merge(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in changes.items():
        *groups, name = key.split(".")
        group = values
        for part in groups:
            if not isinstance(group.get(part), dict):  # a damaged file's: it will differ
                group[part] = {}
            group = group[part]
        group[name] = value
    return values
