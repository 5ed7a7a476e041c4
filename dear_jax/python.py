"""From Python, in a notebook for example: a config by its name, then what its command would do, and its results.

    import dear_jax

    config = dear_jax.config("base2new:oxford_pets", seeds=(1, 2), data={"root": "DATA", "shots": 4})
    results = dear_jax.train(config, workdir="runs/pets")   # what the command prints, and results.json
    classifier = results.classifier()

Mistakes are `UserError`s, with the text that the command line prints. A run that is started again with the same workdir
goes on where it stopped.
"""

import copy
from typing import TYPE_CHECKING, Any

from etils import epath
from ml_collections import ConfigDict

from dear_jax import session
from dear_jax.errors import UserError, show
from dear_jax.files import storage
from dear_jax.setup import config_files, overrides

if TYPE_CHECKING:
    from dear_jax.evaluation.results import Results


def config(name: str, **keys: Any) -> ConfigDict:
    """A config, with other values for some of its keys.

    Args:
        name: as `--config` takes it: a file of `configs/` with or without folder and suffix, or a path; after a colon
            the data set.
        **keys: as `--config.KEY` takes them, nested as they are: `seeds=(1, 2), data={"shots": 4}`, or
            `**{"data.shots": 4}`.

    Returns:
        The config; values can be set later, too: `config.data.shots = 4`.

    Raises:
        UserError: no such file or key, or a value of another type than the key's.
    """
    return overrides.apply_values(config_files.load(name), keys)


def train(config: ConfigDict, workdir: epath.PathLike | None = None) -> "Results":
    """Train as the command line does, with its lines and bars; the results of a run that is finished are read.

    Args:
        config: of `config` above.
        workdir: folder of the run; none: a new one below `runs/`.

    Raises:
        UserError: what the command line answers in a paragraph.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
    """
    return _results(config, "train", workdir)


def evaluate(config: ConfigDict, workdir: epath.PathLike | None = None) -> "Results":
    """Measure the adapter of `config.run`, or zero-shot CLIP alone, in the same way."""
    return _results(config, "evaluate", workdir)


def run(config: ConfigDict, workdir: epath.PathLike | None = None) -> epath.Path:
    """Do the job of a config as the command line does: predict, retrieve, find_roles, report, ...

    Args:
        config: of `config` above.
        workdir: folder of the run; none: a new one below `runs/`.

    Returns:
        The workdir, which holds what the job has written.

    Raises:
        UserError: what the command line answers in a paragraph.
        KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
    """
    if not isinstance(config, ConfigDict):
        raise UserError(f"expected a config, as dear_jax.config('base2new') gives it, found {show(config)}.")
    place = storage.to_path(workdir) if workdir is not None else None
    with session.settings_kept(), session.full_disks_answered():
        session.set_up(config)
        with session.one_voice():
            module, plan, place = session.prepare(config, place)
            try:
                module.run(plan, place)
            except SystemExit as error:  # how the loop leaves once it has saved what it was asked to
                raise KeyboardInterrupt(f"stopped; with workdir={str(place)!r} it goes on from here") from error
    return place


def _results(config: ConfigDict, job: str, workdir: epath.PathLike | None) -> "Results":
    if isinstance(config, ConfigDict):
        if config.job not in ("train", job):  # the config files of a protocol say train
            raise UserError(f"config.job is {show(config.job)}: dear_jax.{job} takes the config of a protocol.")
        config = overrides.apply_values(copy.deepcopy(config), {"job": job})
    place = run(config, workdir)
    from dear_jax.evaluation.results import Results  # which imports JAX

    return Results(place)
