"""The plan of the job `train`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dear_jax.files.live_metrics import Logging
from dear_jax.files.workdir import RunConfig
from dear_jax.setup import (
    backbones,
    checks,
    data,
    departures,
    keys,
    methods,
    recipes,
    roles,
    selection,
    values,
    variants,
)
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.data import DataPlan
from dear_jax.setup.plans import evaluate
from dear_jax.setup.plans.evaluate import Measuring
from dear_jax.setup.roles import RolePlan
from dear_jax.setup.variants import Variant
from dear_jax.training.loop import Schedule
from dear_jax.training.optimizer import Optimizer


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """What the job works by."""

    config: RunConfig
    method: str  # a row of setup/methods
    title: str  # what tables call it
    remarks: tuple[str, ...]  # of the method, about these settings and its recipe
    trial: str  # why the training is too short to show what the method does; empty: it is not
    backbone: BackbonePlan
    data: DataPlan
    roles: RolePlan  # of the map that a run makes first where it needs one
    variants: tuple[Variant, ...]
    schedule: Schedule
    logging: Logging
    measuring: Measuring
    departures: tuple[str, ...]  # from what published tables were made with
    selection: Mapping[str, Any]  # the note of results on where settings were chosen; empty: nowhere

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return f"{self.data.protocol.name}-{self.data.dataset}"


def make_plan(config: ConfigDict) -> TrainingPlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range.
    """
    config = recipes.resolve(config)
    checks.check(config, trains=True)
    logging = values.read(Logging, config.log)
    logging.check()
    entry = methods.find(config.method)
    found = variants.read(config)
    return TrainingPlan(
        config=keys.run_config(config),
        method=config.method,
        title=entry.TITLE,
        remarks=(*recipes.remarks(config), *(entry.remarks(found[0].options) if len(found) == 1 else ())),
        trial=recipes.trial(config),
        backbone=backbones.read(config),
        data=data.read(config),
        roles=roles.read(config),
        variants=found,
        schedule=dataclasses.replace(read_schedule(config), profile=values.span(config.log.profile)),
        logging=logging,
        measuring=evaluate.read_measuring(config),
        departures=tuple(departures.of_training(config)),
        selection=selection.note(config),
    )


def read_schedule(config: ConfigDict) -> Schedule:
    """How a job trains, of a resolved config."""
    train = config.train
    return Schedule(
        seeds=tuple(config.seeds),
        epochs=train.epochs,
        steps=train.steps,
        optimizer=values.read(Optimizer, config.optimizer),
        batch_size=train.batch_size,
        log_every=train.log_every,
        checkpoint_every=train.checkpoint_every,
        keep_checkpoints=train.keep_checkpoints,
        crop_scale=tuple(config.data.crop_scale),
        flip=config.data.flip,
        workers=config.data.workers,
        cache_gb=config.data.cache_gb,
        mesh=tuple(config.compute.mesh),
        shard_backbone=config.compute.shard_backbone,
    )
