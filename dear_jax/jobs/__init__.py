"""What `config.job` names: a file per job with `make_plan`, `run` and `describe` (its dry run), a row in `JOBS`."""

import dataclasses
import importlib
from types import ModuleType

from dear_jax.errors import UserError, show


@dataclasses.dataclass(frozen=True)
class Job:
    """A row: where the job is, and how it may be started."""

    module: str  # imported when the job is asked for
    together: bool = False  # whether several processes can run it together
    measures_compiling: bool = False  # so that programs of earlier starts are not taken

    def load(self) -> ModuleType:
        """The module with `make_plan(config)`, `run(plan, workdir)` and `describe(plan, description)`."""
        return importlib.import_module(self.module)


JOBS = {
    "train": Job("dear_jax.jobs.train", together=True),
    "select": Job("dear_jax.jobs.select"),
    "evaluate": Job("dear_jax.jobs.evaluate", together=True),
    "predict": Job("dear_jax.jobs.predict", together=True),
    "explain": Job("dear_jax.jobs.explain"),
    "retrieve": Job("dear_jax.jobs.retrieve", together=True),
    "report": Job("dear_jax.jobs.report"),
    "push": Job("dear_jax.jobs.push"),
    "pretrain": Job("dear_jax.jobs.pretrain"),
    "find_roles": Job("dear_jax.jobs.find_roles", together=True),
    "compile": Job("dear_jax.jobs.compile", measures_compiling=True),
}


def find(name: str) -> Job:
    """The row of a job.

    Raises:
        UserError: there is none of that name.
    """
    if name not in JOBS:
        raise UserError(f"config.job: expected one of {', '.join(JOBS)}, found {show(name)}.")
    return JOBS[name]
