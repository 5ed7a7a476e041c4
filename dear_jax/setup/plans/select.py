"""The plan of the job `select`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.data.leave_out import leaves_classes_out
from dear_jax.errors import UserError
from dear_jax.files.workdir import RunConfig
from dear_jax.setup import backbones, candidates, checks, data, keys, methods, recipes, roles, values, variants
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.candidates import Candidate
from dear_jax.setup.data import DataPlan
from dear_jax.setup.plans import evaluate
from dear_jax.setup.plans.evaluate import Measuring
from dear_jax.setup.plans.train import read_schedule
from dear_jax.setup.roles import RolePlan
from dear_jax.setup.variants import Variant
from dear_jax.training.loop import Schedule


@dataclasses.dataclass(frozen=True)
class Training:
    """What is trained side by side: the variants of one share of the recipe."""

    share: float
    variants: tuple[Variant, ...]
    schedule: Schedule


@dataclasses.dataclass(frozen=True)
class SelectionPlan:
    """What the job works by."""

    config: RunConfig
    method: str  # a row of setup/methods
    title: str  # what tables call it
    remarks: tuple[str, ...]  # of the method, about its recipe
    backbone: BackbonePlan
    data: DataPlan
    roles: RolePlan  # of the map that a run makes first where it needs one
    candidates: tuple[Candidate, ...]  # in the order in which ties are decided
    trainings: tuple[Training, ...]
    measuring: Measuring
    folds: int
    images: int  # held out of each class, at most
    seed: int  # of the draws of classes and images

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return f"select-{self.data.protocol.name}-{self.data.dataset}"


def make_plan(config: ConfigDict) -> SelectionPlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range; fewer than two candidates.
    """
    resolved, options = recipes.resolve(config), config.select
    checks.check(values.set_open(resolved, {"variants": ""}), trains=True)
    if config.data.shots_file:
        raise UserError(
            "config.data.shots_file is of training runs: the job select draws for each of its folds. Leave it out."
        )
    plan = data.read(resolved)
    found = candidates.find(config, leaves_classes_out(plan.protocol))
    shares = dict.fromkeys(candidate.share for candidate in found)
    trainings = []
    for share in sorted(shares, key=lambda share: share != config.train.share):
        configs = candidates.variant_configs(config, share)
        for one in configs.values():
            checks.check(one, trains=True)
        common = recipes.resolve(values.set_open(config, {candidates.SHARE: share}))
        trainings.append(Training(share, variants.of(configs), read_schedule(common)))
    entry = methods.find(config.method)
    return SelectionPlan(
        config=keys.run_config(resolved),
        method=config.method,
        title=entry.TITLE,
        remarks=tuple(recipes.remarks(resolved)),
        backbone=backbones.read(resolved),
        data=plan,
        roles=roles.read(resolved),
        candidates=found,
        trainings=tuple(trainings),
        measuring=evaluate.read_measuring(resolved),
        folds=options.folds,
        images=options.images,
        seed=options.seed,
    )
