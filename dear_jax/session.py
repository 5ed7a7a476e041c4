"""What a process needs before it works, from the command line or from Python: quiet libraries, JAX's settings, devices.

`set_up` makes a process ready for a config, `prepare` finds what its job is to do. `answered` turns what goes wrong
outside of this project into the words of a user's mistake.
"""

import contextlib
import datetime
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from absl import flags, logging
from etils import epath
from ml_collections import ConfigDict

from dear_jax import jobs
from dear_jax.errors import UserError, show
from dear_jax.files import storage
from dear_jax.setup import values as config_values


def quiet() -> None:
    """Keep libraries from printing what is no message of theirs to a user, before JAX starts its devices."""
    for variable, value in {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TOKENIZERS_PARALLELISM": "false",  # and no warning about it when workers are forked
        "TRANSFORMERS_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(variable, value)
    import jax

    from dear_jax.tpu import chips

    if not jax.config.jax_platforms and chips.libtpu_without_tpu():  # type: ignore[attr-defined]
        jax.config.update("jax_platforms", "cpu")


def set_up(config: ConfigDict) -> None:
    """Quiet the libraries, set JAX's precision and cache, and join the other processes of the job.

    Raises:
        UserError: no such job; a setting that JAX does not take; devices or processes that are not there.
    """
    row = jobs.find(config.job)
    # Orbax and Grain log the traceback of an error in their threads, and raise it as well: it is answered once.
    logging.set_verbosity(logging.FATAL)
    logging.set_stderrthreshold(logging.FATAL)
    quiet()
    import jax

    from dear_jax.files import program_cache
    from dear_jax.parallel import processes
    from dear_jax.parallel.processes import Cluster

    compute = config.compute
    try:
        jax.config.update("jax_default_matmul_precision", compute.matmul_precision)
    except ValueError as error:
        raise UserError(
            "config.compute.matmul_precision: expected float32, tensorfloat32 or bfloat16, found "
            f"{show(compute.matmul_precision)}."
        ) from error
    own = compute.compilation_cache == program_cache.AUTO
    program_cache.use(program_cache.NONE if own and row.measures_compiling else compute.compilation_cache)
    if not jax.distributed.is_initialized():  # as a Python program may have done
        processes.start(config_values.read(Cluster, compute), config.job, row.together)
    _check_devices()


def _check_devices() -> None:
    """Start the devices.

    Raises:
        UserError: there are none of the kind that is asked for.
    """
    import jax

    try:
        jax.devices()
    except Exception as error:  # of any kind, also AssertionError without a word
        said = " ".join(str(error).split()) or "no such device is here, or no JAX for it is installed"
        wanted = os.environ.get("JAX_PLATFORMS", "")
        asked = f"JAX_PLATFORMS is {show(wanted)}, and JAX" if wanted else "JAX"
        raise UserError(
            f"{asked} cannot start its devices: {said}. Leave JAX_PLATFORMS out, so that JAX takes what there is, give "
            "JAX_PLATFORMS=cpu, or install JAX for this machine: pip install -e '.[cuda]' or '.[tpu]'."
        ) from error


def prepare(config: ConfigDict, workdir: epath.Path | None) -> tuple[ModuleType, Any, epath.Path]:
    """The job's module, its plan, and the workdir: the given one, or a new folder below `runs/`.

    Raises:
        UserError: a value out of its range.
    """
    job = jobs.find(config.job).load()
    plan = job.make_plan(config)
    workdir = workdir or _fresh(plan.label)
    print(f"workdir: {workdir}", flush=True)
    return job, plan, workdir


def _fresh(label: str) -> epath.Path:
    """A folder under `runs/` that is not there yet, named after the run and the time."""
    import jax

    if jax.process_count() > 1:
        raise UserError("Several processes of one job need the same --workdir: give one that all of them can write to.")
    name = f"{label}-{datetime.datetime.now().strftime('%Y%m%d-%H%M%S')}"
    folders = (epath.Path("runs") / (name + suffix) for suffix in ["", *(f"-{n}" for n in range(2, 100))])
    return next(folder for folder in folders if not folder.exists())


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Of several processes, let the first alone print; say what to do when one of them is lost."""
    from dear_jax.parallel import processes

    with contextlib.ExitStack() as stack:
        if not processes.is_first():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        with processes.losses_answered():
            yield


@contextlib.contextmanager
def full_disks_answered() -> Iterator[None]:
    """Say where there is no space, also where no file of the run tells of it.

    Raises:
        UserError: instead of the operating system's error.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in storage.FULL:
            raise
        place = f"{error.filename}: " if error.filename else ""
        raise UserError(f"{place}{storage.reason(error)}. Free space there, and start again.") from error


@contextlib.contextmanager
def settings_kept() -> Iterator[None]:
    """Give a Python program back what `set_up` changes: JAX's precision and cache of programs, and absl's levels."""
    import jax

    from dear_jax.files import program_cache

    precision = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    levels = {name: flags.FLAGS[name].value for name in ("verbosity", "stderrthreshold")}
    try:
        with program_cache.kept():
            yield
    finally:
        jax.config.update("jax_default_matmul_precision", precision)
        for name, value in levels.items():
            flags.FLAGS[name].value = value
