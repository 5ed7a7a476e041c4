"""The paper's tables, run by run, on one machine or on many; and the same runs of other methods, beside them.

    python -m experiments.reproduce --protocol=base2new --data=all --workdir=runs/paper -- --config.data.root=DATA
    python -m experiments.reproduce --methods=all --protocol=all --workdir=runs/paper -- --config.data.root=DATA
    python -m experiments.reproduce --protocol=all --data=world --workdir=runs/world         # no download
    python -m experiments.reproduce --protocol=few_shot --workdir=/shared/paper --shard=2/8  # the second of eight

starts `python -m dear_jax.main` once for every method and data set (and number of shots), each with a workdir of its
own below --workdir and its output in `log.txt` there; what follows `--` goes to each. Started again it skips what is
done and goes on with what is not. A run that fails is listed at the end and does not stop the others; a protocol that a
method has no rule for is named and left out. On a file system that several machines share, each run is locked while it
is under way, and the lock of a machine that died is overtaken. At the end the tables of all finished runs below
--workdir are printed and written there, as `experiments/tables.py` does.
"""

import argparse
import dataclasses
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from dear_jax import main as command_line
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserError, count
from dear_jax.evaluation import summary
from dear_jax.files import output, storage
from dear_jax.files.lock import InUse
from dear_jax.files.workdir import Workdir
from dear_jax.report import blocks
from dear_jax.setup import keys, recipes
from dear_jax.setup.methods import METHODS
from experiments import tables
from experiments.compare.settings import FIRST
from experiments.sweep import child_process, item_lock
from experiments.sweep.items import SHOTS, Item, left_out, make_items, read_methods, read_shots, shard

LOCKS = ".locks"


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, then print the tables.

    Returns:
        The exit code: 0 when every run of this shard is done, 1 when some failed, 2 after a user's mistake, 3 when
        none failed but other processes are still at some, 130 or 143 when interrupted.
    """
    arguments, extra = _split_extra(arguments)
    options = _parser().parse_args(arguments)
    try:
        if re.match(r"[a-z0-9]+:/", str(options.workdir)):
            raise UserError(f"--workdir: expected a folder, which can hold locks, found the bucket {options.workdir}.")
        items = _make_items(options)
        for item in items:  # a mistyped flag is answered now, not by every run in turn
            config, _, _ = command_line.parse(item.arguments(options.workdir, extra))
            if config.method != item.method:  # and would train in the workdir of another
                raise UserError(f"--config.method={config.method} after --: give --methods={config.method} before it.")
        if options.dry_run:
            _describe(items, options.workdir, extra, 60 * options.stale_minutes)
            return 0
        outcomes = run_all(items, options.workdir, extra, 60 * options.stale_minutes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (child_process.Interrupted, KeyboardInterrupt) as error:
        print("\ninterrupted; the same command goes on where it stopped.", file=sys.stderr)
        return error.exit_code if isinstance(error, child_process.Interrupted) else 130
    _print_tables(options.workdir)
    return _summarize(outcomes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", required=True, choices=(*PROTOCOLS, "all"))
    parser.add_argument("--methods", default=FIRST, help=f"all, or names with commas, of {', '.join(METHODS)}")
    parser.add_argument("--data", default="all", help="all (default), world, or names of data sets, with commas")
    parser.add_argument("--shots", default=",".join(map(str, SHOTS)), help="of few_shot, with commas (%(default)s)")
    parser.add_argument("--workdir", required=True, type=Path, help="folder of all workdirs")
    parser.add_argument("--shard", help="i/n: only every n-th run, from the i-th on, i from 1")
    parser.add_argument("--dry_run", action="store_true", help="list the runs and their commands")
    parser.add_argument("--stale_minutes", type=float, default=10.0, help="silence after which a lock is overtaken")
    return parser


def _make_items(options: argparse.Namespace) -> list[Item]:
    """The runs of this shard; what is left out of the sweep is named on stderr.

    Raises:
        UserError: no such method, data set or shard; nothing to run.
    """
    methods = read_methods(options.methods)
    for sentence in left_out(options.protocol, methods):
        print(f"left out: {sentence}", file=sys.stderr)
    items = make_items(options.protocol, options.data, methods, read_shots(options.shots))
    if not items:
        raise UserError(
            f"--methods={options.methods} has no run of --protocol={options.protocol}. Give --protocol=few_shot, where "
            "all classes are trained on, or other methods."
        )
    return shard(items, options.shard) if options.shard else items


def _split_extra(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What comes before and after `--`."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:place]), list(arguments[place + 1 :])


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an item."""

    state: Literal["done", "failed", "under way elsewhere"]
    why: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.why}" if self.why else self.state


DONE = Outcome("done")


def run_all(items: Sequence[Item], workdir: Path, extra: Sequence[str], stale_seconds: float) -> dict[str, Outcome]:
    """Run every item that is not done; item -> what became of it."""
    outcomes: dict[str, Outcome] = {}
    for number, item in enumerate(items, 1):
        print(f"[{number}/{len(items)}] {item.name}: ", end="", flush=True)
        start = time.monotonic()
        needed = outcomes.get(item.needs, DONE)
        if needed == DONE:
            outcome = _attempt(item, workdir, extra, stale_seconds)
        else:
            outcome = Outcome(needed.state, f"it needs {item.needs}, which is not done")
        outcomes[item.name] = outcome
        print(f"{outcome} ({time.monotonic() - start:.0f} s)", flush=True)
    return outcomes


def _attempt(item: Item, workdir: Path, extra: Sequence[str], stale_seconds: float) -> Outcome:
    """Run one item, unless it is done or somebody else is at it."""
    try:
        with item_lock.hold(workdir / LOCKS, item.name, stale_seconds):
            if _is_done(item, workdir, extra):
                return DONE
            print(f"running, see {workdir / item.name / 'log.txt'} ... ", end="", flush=True)
            return _run(item, workdir, extra)
    except (item_lock.InUse, InUse) as error:  # the latter: a run that outlived the sweep that started it
        return Outcome("under way elsewhere", str(error))
    except UserError as error:
        return Outcome("failed", str(error))


def _is_done(item: Item, workdir: Path, extra: Sequence[str]) -> bool:
    """Whether a run is finished and whole; one that is not is started again, which mends it.

    Raises:
        InUse: another process is at it.
        UserError: it was finished with another config.
    """
    with Workdir(workdir / item.name) as files:
        if not (files.path / summary.RESULTS).exists():
            return False
        config, _, _ = command_line.parse(item.arguments(workdir, extra))
        files.check_config(keys.run_config(recipes.resolve(config)))
    return _is_whole(item, workdir)


def _is_whole(item: Item, workdir: Path) -> bool:
    """Whether all that a finished run leaves is there and undamaged."""
    folder = storage.to_path(workdir / item.name)
    try:
        results = summary.find_finished(folder, trains=not item.needs)
    except UserError:
        return False
    return results is not None and (folder / summary.TABLE).exists()


def _run(item: Item, workdir: Path, extra: Sequence[str]) -> Outcome:
    """Run one item to its end, its output appended to a log."""
    command = [sys.executable, "-m", "dear_jax.main", *item.arguments(workdir, extra)]
    log = workdir / item.name / "log.txt"
    with storage.refusals_answered(f"cannot write {log}"):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            print(f"$ {shlex.join(command)}", file=file, flush=True)
            code = child_process.run(command, file)
    if code == 0:
        return DONE
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1]
    how = f"exit code {code}" if code > 0 else f"killed by signal {-code}"
    return Outcome("failed", f"{how}: {last.removeprefix('error: ')}")


def _describe(items: Sequence[Item], workdir: Path, extra: Sequence[str], stale_seconds: float) -> None:
    """What would be run, as commands for a shell."""
    for item in items:
        holder = item_lock.holder(workdir / LOCKS, item.name, stale_seconds)
        done = _is_whole(item, workdir)
        print(f"# {item.name}: {'done' if done else f'under way elsewhere: {holder}' if holder else 'to do'}")
        print(shlex.join(["python", "-m", "dear_jax.main", *item.arguments(workdir, extra)]))


def _print_tables(workdir: Path) -> None:
    """Of everything that is finished, also by other shards."""
    try:
        found = tables.collect([workdir])
        tables.write(found, workdir)
        print(f"\n{blocks.to_markdown(found)}\nWritten: {', '.join(str(workdir / name) for name in tables.WRITERS)}")
    except UserError as error:
        print(f"no tables: {error}", file=sys.stderr)


def _summarize(outcomes: dict[str, Outcome]) -> int:
    """Print what is not done; the exit code."""
    done = [name for name, outcome in outcomes.items() if outcome == DONE]
    print(f"\n{len(done)} of {count(len(outcomes), 'run')} {'is' if len(done) == 1 else 'are'} done.")
    for name, outcome in outcomes.items():
        if outcome != DONE:
            print(f"  {name}: {outcome}")
    if any(outcome.state == "failed" for outcome in outcomes.values()):
        return 1
    return 0 if len(done) == len(outcomes) else 3


if __name__ == "__main__":
    output.make_lasting()
    sys.exit(main(sys.argv[1:]))
