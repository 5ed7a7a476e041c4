"""The plan of the job `report`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.errors import UserError
from dear_jax.files.workdir import RunConfig
from dear_jax.setup import keys


@dataclasses.dataclass(frozen=True)
class ReportPlan:
    """What the job works by."""

    config: RunConfig
    run: str  # workdir of a finished training or evaluation run

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return "report"


def make_plan(config: ConfigDict) -> ReportPlan:
    """The plan of a config.

    Raises:
        UserError: no run is given.
    """
    if not config.run:
        raise UserError(
            "config.run is empty: the job report makes the page of a finished run. Give its workdir by "
            "--config.run=WORKDIR."
        )
    return ReportPlan(keys.run_config(config), config.run)
