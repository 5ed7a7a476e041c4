"""Flips single bits in the files of a finished training run, and reads each damaged workdir as its readers do.

    python -m tests.campaigns.bit_flips --seed=0 --count=200

A file is drawn, then one of its bits. Read are: the adapter (predict, retrieve, evaluate), the config and the results
(a second start, and the tables), and the checkpoints (a start that goes on). What each says must be what it says of the
whole workdir, or a `UserError` or a remark that something is damaged; another answer, or any other exception, is a
failure. The times of steps in metrics.jsonl, which tables show and no result depends on, are not compared.
"""

import collections
import contextlib
import dataclasses
import io
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from dear_jax import main as command_line
from dear_jax.errors import UserError
from dear_jax.evaluation import summary
from dear_jax.files import checkpoint, json_files
from dear_jax.files.workdir import Workdir
from dear_jax.methods import adapter_file
from dear_jax.report.runs import find_runs
from dear_jax.setup import keys, recipes
from tests.campaigns import arguments, small_run

NOTICED = "noticed"
LEAVES: dict[str, str] = {}  # of the run's state: name -> dtype and shape


def main() -> int:
    """Run the campaign; 0 if no flip had an effect without a word."""
    options = arguments.parse(__doc__, 200, "flips")
    generator = random.Random(options.seed)
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        whole, copy = Path(folder, "whole"), Path(folder, "copy")
        small_run.finish(small_run.start(whole, Path(folder, "cache")))
        files = [path.relative_to(whole) for path in sorted(whole.rglob("*")) if path.is_file() and path.stat().st_size]
        newest = max((whole / "checkpoints").iterdir(), key=lambda path: int(path.name))
        LEAVES.update(json_files.parse((newest / "about" / "metadata").read_bytes())["leaves"])
        # Readers may write, so that each looks at a copy of its own; all copies have one path, which runs remember.
        expected = {reader.__name__: _read(reader, whole, copy) for reader in READERS}
        for _ in range(options.count):
            name = generator.choice(files)
            content = bytearray((whole / name).read_bytes())
            bit = generator.randrange(8 * len(content))
            content[bit // 8] ^= 1 << bit % 8
            outcome = "same"
            for reader in READERS:
                found = _read(reader, whole, copy, {name: bytes(content)})
                if found == NOTICED:
                    outcome = NOTICED if outcome == "same" else outcome
                elif not _equal(found, expected[reader.__name__]):
                    outcome = "failed"
                    print(f"bit {bit} of {name}, {reader.__name__}: {str(found)[:500]}", flush=True)
            counts[outcome] += 1
    print(
        f"bit_flips: seed {options.seed}, {options.count} flips over {len(files)} files: {counts[NOTICED]} noticed, "
        f"{counts['same']} without effect, {counts['failed']} failed."
    )
    return 1 if counts["failed"] else 0


def _read(reader: Callable[[Path], Any], whole: Path, copy: Path, changed: dict[Path, bytes] | None = None) -> Any:
    """What a reader says of a workdir; `NOTICED` where it says that something is damaged."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(whole, copy)
    for name, content in (changed or {}).items():
        (copy / name).write_bytes(content)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            found = reader(copy)
    except UserError:
        return NOTICED
    except Exception as error:
        return error
    return NOTICED if "damaged" in said.getvalue() or "has changed" in said.getvalue() else found


def adapter(run: Path) -> Any:
    """What predict, retrieve and evaluate take."""
    trained = adapter_file.load(run)
    return dataclasses.replace(trained, parts=()), [dataclasses.astuple(part) for part in trained.parts]


def second_start(run: Path) -> Any:
    """What the same command answers: it reads the config, the results and the adapter, and prints the table."""
    config, _, _ = command_line.parse([*small_run.FLAGS, f"--workdir={run}"])
    with Workdir(run) as files:
        files.check_config(keys.run_config(recipes.resolve(config)))
        if not summary.report_finished(files, trains=True):
            return NOTICED
    return (run / "results.md").read_bytes(), json_files.read_object(run / "results.json")


def tables(run: Path) -> Any:
    """What the tables of many runs take."""
    runs, problems = find_runs([run])
    return NOTICED if problems else [dataclasses.replace(one, step_seconds=None) for one in runs]


def checkpoints(run: Path) -> Any:
    """What a start takes that goes on: the newest step that is whole."""
    folder = epath.Path(run / "checkpoints")
    like = {name: _like(text) for name, text in LEAVES.items()}
    found = checkpoint.read(folder, like)
    return found.step, found.iterator_state, found.metadata, jax.tree.map(np.asarray, found.state)


READERS = (adapter, second_start, tables, checkpoints)


def _like(text: str) -> jax.ShapeDtypeStruct:
    """Of `float32[2,1,64]`."""
    dtype, _, shape = text.removesuffix("]").partition("[")
    return jax.ShapeDtypeStruct(tuple(int(size) for size in shape.split(",") if size), np.dtype(dtype))


def _equal(one: Any, other: Any) -> bool:
    """Whether two trees hold the same."""
    leaves, others = jax.tree.flatten(one), jax.tree.flatten(other)
    return leaves[1] == others[1] and all(map(np.array_equal, leaves[0], others[0]))


if __name__ == "__main__":
    sys.exit(main())
