"""Command line: flags and a config in, device set-up, then one job (`config.job`).

    python -m dear_jax.main --config=configs/base2new.py --config.data.shots=4 --workdir=runs/mine

Every key of the config is a flag. A user's mistake ends in one paragraph on stderr and exit code 2.
JAX is imported once the flags are known to be right, so that mistakes are answered at once.
"""

import contextlib
import os
import platform
import signal
import sys
from collections.abc import Iterator, Sequence

from absl import flags
from etils import epath
from ml_collections import ConfigDict

from dear_jax import __version__, jobs, session
from dear_jax.errors import UserError, show
from dear_jax.files import output, storage
from dear_jax.setup import config_files, key_help, keys, overrides
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
        with session.full_disks_answered():
            session.set_up(config)
            with session.one_voice():
                if dry_run:
                    _dry_run(config)
                    return 0
                job, plan, workdir = session.prepare(config, workdir)
                with terminable():
                    job.run(plan, workdir)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
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
        parser = overrides.parser(key, default)
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
    return overrides.apply(config, given), storage.to_path(values.workdir) if values.workdir else None, values.dry_run


def _parse_flags(values: flags.FlagValues, arguments: Sequence[str], known_only: bool = False) -> None:
    """Parse with absl; say what is wrong in the config's own words."""
    try:
        rest = values(["dear_jax", *arguments], known_only=known_only)[1:]
    except flags.UnrecognizedFlagError as error:
        kind = "config key" if error.flagname.startswith("config.") else "flag"
        current = overrides.current
        today = [flag for flag in values if current(flag) == flag or current(flag) not in values]
        nearest = overrides.nearest(error.flagname, today)
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


def _dry_run(config: ConfigDict) -> None:
    """Print the resolved config and what the job says of its plan.

    Raises:
        UserError: every problem found, in one message.
    """
    from dear_jax.jobs.description import Description
    from dear_jax.setup import data, recipes

    job, description = jobs.find(config.job).load(), Description()
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
