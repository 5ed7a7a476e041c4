"""The plan of the job `evaluate`, and of the evaluation that ends a training run."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.files.workdir import RunConfig
from dear_jax.methods import paths
from dear_jax.methods.paths import Rule
from dear_jax.setup import backbones, checks, data, keys, recipes, roles, runs
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.data import DataPlan
from dear_jax.setup.roles import RolePlan
from dear_jax.setup.runs import RunChoice


@dataclasses.dataclass(frozen=True)
class Measuring:
    """How class sets are measured: keys of `config.eval`."""

    batch_size: int  # images
    rule: Rule | None  # of the paths' weights, where a class was not trained on; None: the method's own
    workers: int  # processes that prepare images
    more_rules: tuple[Rule, ...] = ()  # measured beside the named ones
    predictions: bool = False  # write a table of all images


@dataclasses.dataclass(frozen=True)
class AblationPlan:
    """How accuracy with ever more heads ablated is measured."""

    role_map: str  # file; empty: that of the backbone
    roles: RolePlan  # how one is made, and how many training images are looked at
    first_layer: int | None
    attributes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class EvaluationPlan:
    """What the job works by."""

    config: RunConfig
    backbone: BackbonePlan
    data: DataPlan
    run: RunChoice
    measuring: Measuring
    ablation: AblationPlan | None

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return f"{self.data.protocol.name}-{self.data.dataset}"


def read_measuring(config: ConfigDict) -> Measuring:
    """The part of the plan that a training run shares."""
    rule = paths.parse_rule(config.eval.new_classes) if config.eval.new_classes else None
    more = tuple(paths.parse_rule(str(rule)) for rule in config.eval.rules)
    return Measuring(config.eval.batch_size, rule, config.data.workers, more, config.eval.predictions)


def make_plan(config: ConfigDict) -> EvaluationPlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range.
    """
    config = recipes.resolve(config)
    checks.check(config, trains=False)
    return EvaluationPlan(
        keys.run_config(config),
        backbones.read(config),
        data.read(config),
        runs.read(config),
        read_measuring(config),
        _read_ablation(config),
    )


def _read_ablation(config: ConfigDict) -> AblationPlan | None:
    asked, options = config.eval.ablation, config.roles
    if not asked:
        return None
    return AblationPlan(
        "" if asked == "auto" else asked, roles.read(config), options.first_layer, tuple(options.attributes)
    )
