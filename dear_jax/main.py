"""Command line: flags and a config in, device set-up, then one job (`config.job`).

    python -m dear_jax.main --config=configs/base2new.py --config.data.shots=4 --workdir=runs/mine

Every key of the config is a flag. A user's mistake ends in one paragraph on stderr and exit code 2.
JAX is imported once the flags are known to be right, so that mistakes are answered at once.
"""

import contextlib
import datetime
import difflib
import os
import platform
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from absl import flags, logging
from etils import epath
from ml_collections import ConfigDict

from dear_jax import __version__, jobs
from dear_jax.errors import UserError, show
from dear_jax.files import output, storage
from dear_jax.setup import config_files, key_help, keys
from dear_jax.setup import values as config_values
from dear_jax.training.interruption import Terminated, terminable

LONG = 200  # characters of a flag


def cli() -> None:
    """The console script; configs of the current folder import one another, as with `python -m`."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    output.make_lasting()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one job.

    Returns:
        The exit code: 0, 2 after a user's mistake, 130 after Ctrl-C, 143 after SIGTERM. Bugs keep their traceback.
    """
    workdir = None
    try:
        if answer := _asked(arguments):
            print(answer)
            return 0 if arguments else 2
        config, workdir, dry_run = parse(arguments)
        row = jobs.find(config.job)
        _set_up(config, row)
        job = row.load()
        with _one_voice():
            if dry_run:
                _dry_run(job, config)
                return 0
            plan = job.make_plan(config)
            workdir = workdir or _fresh(plan.label)
            print(f"workdir: {workdir}", flush=True)
            with terminable():
                job.run(plan, workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in storage.FULL:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{storage.reason(error)}. Free space there, and start again.", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        hint = f" Give --workdir={workdir} to go on from what is there." if workdir else ""
        print(f"interrupted.{hint}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)
    return 0


def _asked(arguments: Sequence[str]) -> str:
    """The answer to --help, --help=GROUP and --version, and to no flag at all; else nothing.

    Raises:
        UserError: there is no such group.
    """
    for argument in arguments or ("--help",):
        name, _, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name in ("help", "h"):
            return key_help.of_keys(value) if value else key_help.overview(list(jobs.JOBS))
        if argument == "--version":
            return ", ".join(f"{package} {version}" for package, version in _versions())
    return ""


def _versions() -> Iterator[tuple[str, str]]:
    import importlib.metadata  # a tenth of the time to start

    yield "dear_jax", __version__
    yield "Python", platform.python_version()
    for package in ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "libtpu", "jax-cuda13-plugin"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield package, importlib.metadata.version(package)


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, epath.Path | None, bool]:
    """The locked config with the overrides of the command line, the workdir if one was given, and --dry_run."""
    values = flags.FlagValues()
    flags.DEFINE_string("config", None, "file whose get_config() gives the config", values)
    flags.DEFINE_string("workdir", None, "folder of the run", values)
    flags.DEFINE_bool("dry_run", False, "describe the run and find what is wrong, without training", values)
    _parse_flags(values, arguments, known_only=True)
    if values.config is None:
        raise UserError(f"--config is missing. {key_help.USAGE}")
    config = config_files.load(values.config)
    defaults = config_values.flatten(config)
    names = {key: [*keys.earlier_names(key), key] for key in defaults}
    for key, default in defaults.items():
        # By keyword: absl shares parsers of equal positional arguments, and 1 == 1.0 == True.
        parser: flags.ArgumentParser[Any] = config_values.Value(default=default, item=keys.ITEMS.get(key, str))
        for name in names[key]:
            flag = flags.Flag(parser, None, f"config.{name}", None, key, boolean=isinstance(default, bool))
            flags.DEFINE_flag(flag, values)
    _parse_flags(values, arguments)
    given = {
        key: values[f"config.{name}"].value
        for key in defaults
        for name in names[key]  # of two names of a key, today's counts
        if values[f"config.{name}"].present
    }
    config.update_from_flattened_dict({key: config_values.plain(value) for key, value in given.items()})
    keys.check_group(given, config.get("method", ""))
    return config.lock(), storage.to_path(values.workdir) if values.workdir else None, values.dry_run


def _parse_flags(values: flags.FlagValues, arguments: Sequence[str], known_only: bool = False) -> None:
    """Parse with absl; say what is wrong in the config's own words."""
    try:
        rest = values(["dear_jax", *arguments], known_only=known_only)[1:]
    except flags.UnrecognizedFlagError as error:
        kind = "config key" if error.flagname.startswith("config.") else "flag"
        today = [flag for flag in values if _current(flag) == flag or _current(flag) not in values]
        nearest = _nearest(error.flagname, today)
        raise UserError(f"unknown {kind} {show(error.flagname)}.{nearest}") from error
    except flags.IllegalFlagValueError as error:
        what = str(error).removeprefix("flag ")
        if len(what) > LONG:
            what = f"{what[:LONG]}...: {error.__context__}"  # absl repeats the whole value
        raise UserError(f"wrong value: {what}.") from error
    except flags.Error as error:
        raise UserError(f"{error}") from error
    if rest and not known_only:
        raise UserError(f"unexpected argument {show(rest[0])}: flags look like --config.KEY=VALUE.")


def _current(flag: str) -> str:
    """What a flag is called today."""
    return f"config.{keys.current_name(flag.removeprefix('config.'))}" if flag.startswith("config.") else flag


def _nearest(name: str, valid: Sequence[str]) -> str:
    """Suggest the keys of a group, else the flag whose whole name and last word are spelled most alike."""
    group = [flag for flag in valid if flag.startswith((f"{name}.", f"{_current(name)}."))]
    if group:
        return f" It is a group of keys: {', '.join(group)}."

    def likeness(flag: str) -> float:
        words = [(name, flag), (name.rsplit(".", 1)[-1], flag.rsplit(".", 1)[-1])]
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in words)

    return f" Did you mean {max(valid, key=likeness)}?"


def _fresh(label: str) -> epath.Path:
    """A folder under `runs/` that is not there yet, named after the run and the time."""
    import jax

    if jax.process_count() > 1:
        raise UserError("Several processes of one job need the same --workdir: give one that all of them can write to.")
    name = f"{label}-{datetime.datetime.now().strftime('%Y%m%d-%H%M%S')}"
    folders = (epath.Path("runs") / (name + suffix) for suffix in ["", *(f"-{n}" for n in range(2, 100))])
    return next(folder for folder in folders if not folder.exists())


def _set_up(config: ConfigDict, row: jobs.Job) -> None:
    """Quiet the libraries' logs, set JAX's precision and cache, and join the other processes of the job."""
    # Orbax and Grain log the traceback of an error in their threads, and raise it as well: it is answered once.
    logging.set_verbosity(logging.FATAL)
    logging.set_stderrthreshold(logging.FATAL)
    for variable, value in {
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TOKENIZERS_PARALLELISM": "false",  # and no warning about it when workers are forked
        "TRANSFORMERS_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(variable, value)
    import jax

    from dear_jax.parallel import processes
    from dear_jax.parallel.processes import Cluster
    from dear_jax.tpu import chips

    if "JAX_PLATFORMS" not in os.environ and chips.libtpu_without_tpu():
        jax.config.update("jax_platforms", "cpu")
    compute = config.compute
    try:
        jax.config.update("jax_default_matmul_precision", compute.matmul_precision)
    except ValueError as error:
        raise UserError(
            "config.compute.matmul_precision: expected float32, tensorfloat32 or bfloat16, found "
            f"{show(compute.matmul_precision)}."
        ) from error
    if compute.compilation_cache:
        _use_cache(os.path.expanduser(compute.compilation_cache))
    processes.start(config_values.read(Cluster, compute), config.job, row.together)
    _check_devices()


def _use_cache(folder: str) -> None:
    """Keep compiled programs in a folder; what is damaged in it is compiled anew, without a word.

    Raises:
        UserError: there can be no such folder.
    """
    import jax

    try:
        storage.to_path(folder).mkdir(parents=True, exist_ok=True)
    except storage.failures() as error:
        why = f"cannot make the folder {show(folder)}: {storage.reason(error)}"
        raise UserError(f"config.compute.compilation_cache: {why}.") from error
    warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


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


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Of several processes, let the first alone print; say what to do when one of them is lost."""
    from dear_jax.parallel import processes

    with contextlib.ExitStack() as stack:
        if not processes.is_first():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        with processes.losses_answered():
            yield


def _dry_run(job: ModuleType, config: ConfigDict) -> None:
    """Print the resolved config and what the job says of its plan.

    Raises:
        UserError: every problem found, in one message.
    """
    from dear_jax.jobs.description import Description
    from dear_jax.setup import data, recipes

    description = Description()
    resolved = description.attempt(recipes.resolve, config) or config
    description.section("Config", {key: repr(value) for key, value in config_values.flat_values(resolved).items()})
    plan = description.attempt(job.make_plan, config)
    if plan is not None:
        job.describe(plan, description)
    else:
        description.attempt(data.check, config)  # its problems come out all the same
    description.finish()


if __name__ == "__main__":
    cli()
