"""The plan of the job `push`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.errors import UserErrors, show
from dear_jax.files import hub
from dear_jax.files.workdir import RunConfig
from dear_jax.setup import keys, ranges, sharing


@dataclasses.dataclass(frozen=True)
class PushPlan:
    """What the job works by."""

    config: RunConfig
    run: str  # workdir of a finished training run
    repository: str  # USER/NAME
    backbone: str  # how others find it, where the run had it in a folder; empty: as the run called it
    private: bool
    license: str
    pictures: bool

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return "push"


def make_plan(config: ConfigDict) -> PushPlan:
    """The plan of a config.

    Raises:
        UserErrors: no run or no repository is given; a backbone that others do not have.
    """
    wrong = ranges.messages(config, ranges.problems(config))
    if not config.run or hub.is_address(config.run):
        wrong.append(f"config.run is {show(config.run)}, expected the workdir of a finished training run")
    if not hub.is_repository(config.repo):
        wrong.append(
            f"config.repo is {show(config.repo)}, expected a repository of the Hugging Face Hub as USER/NAME, which is "
            "made if it is not there"
        )
    if config.run_backbone and not sharing.is_public(config.run_backbone):
        wrong.append(
            f"config.run_backbone is {show(config.run_backbone)}, expected the repository of the backbone on the "
            "Hugging Face Hub, where others find it"
        )
    if wrong:
        raise UserErrors(wrong)
    options = config.push
    return PushPlan(
        config=keys.run_config(config),
        run=config.run,
        repository=config.repo,
        backbone=config.run_backbone,
        private=options.private,
        license=options.license,
        pictures=options.pictures,
    )
