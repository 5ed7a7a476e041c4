"""The plan of the job `compile`: that of a training run, and what cannot be seen without its data."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.files.workdir import RunConfig
from dear_jax.setup.plans import train
from dear_jax.setup.plans.train import TrainingPlan


@dataclasses.dataclass(frozen=True)
class CompilePlan:
    """What the job works by."""

    training: TrainingPlan  # whose programs are compiled
    topology: str  # chip and slice
    classes: int  # trained on; 0: as the data set's row, or its own files, say
    prompt_length: int  # of a class prompt on average, both ends counted
    evaluation: bool  # whether the evaluation's programs are compiled as well

    @property
    def config(self) -> RunConfig:
        """Of the workdir."""
        return self.training.config

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return f"compile-{self.training.data.dataset}"


def make_plan(config: ConfigDict) -> CompilePlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range.
    """
    options = config.compile
    return CompilePlan(
        train.make_plan(config), config.topology, options.classes, options.prompt_length, options.evaluation
    )
