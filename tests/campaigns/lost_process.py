"""Kills one of two processes of a training, and looks at how the other ends.

    python -m tests.campaigns.lost_process --seed=0 --count=20

The kills come in turn at the start, in a step, in a save and in the evaluation, at a random moment of each. The right
outcome: exit code 75 and one paragraph within a minute. A process that is killed before it has joined is none of the
job: the other waits for it, and says so with exit code 2. The last line sums up.
"""

import collections
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dear_jax.parallel.processes import LOST
from tests.campaigns import arguments
from tests.repository import REPOSITORY

MOMENTS = ("start", "step", "save", "evaluation")
JOB = (
    f"--config={REPOSITORY / 'configs' / 'base2new.py'}:world_objects",
    *("--config.seeds=1", "--config.data.shots=4", "--config.train.epochs=20", "--config.train.log_every=1"),
    *("--config.train.checkpoint_every=5", "--config.eval.batch_size=10", "--config.compute.coordinator_timeout=25"),
)
SECONDS = 60  # for the other to end
JAX_LINES = ("Traceback", "*** ", "Terminating process", "std::bad_cast", "coordination_service")


def start(workdir: Path, cache: Path) -> list[subprocess.Popen]:
    """Two processes of one job."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [*JOB, f"--workdir={workdir}", f"--config.compute.compilation_cache={cache}"]
    flags += [f"--config.compute.coordinator=127.0.0.1:{port}", "--config.compute.processes=2"]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "dear_jax.main", *flags, f"--config.compute.process={number}"],
            cwd=REPOSITORY,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stdout=(workdir.parent / f"{workdir.name}.out{number}").open("w"),
            stderr=(workdir.parent / f"{workdir.name}.err{number}").open("w"),
        )
        for number in range(2)
    ]


def wait_for(moment: str, workdir: Path, draw: random.Random, processes: list[subprocess.Popen]) -> None:
    """Until the job is there, at a random point of it."""
    output, metrics = workdir.parent / f"{workdir.name}.out0", workdir / "metrics.jsonl"
    checkpoints = workdir / "checkpoints"
    rows, saves = draw.randrange(1, 60), draw.randrange(1, 8)

    def there() -> bool:
        if moment == "start":
            return True
        if moment == "step":
            return metrics.exists() and len(metrics.read_text().splitlines()) >= rows
        if moment == "save":
            return checkpoints.exists() and any(5 * saves <= number_of(path) for path in checkpoints.iterdir())
        return "Evaluating" in output.read_text()

    while not there() and all(process.poll() is None for process in processes):
        time.sleep(0.002)
    time.sleep(draw.uniform(*{"start": (0, 15), "evaluation": (0, 3)}.get(moment, (0, 0.05))))


def number_of(path: Path) -> int:
    """The step of a checkpoint, also of one that is being written."""
    digits = path.name.partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def campaign(seed: int, count: int) -> int:
    """Kill `count` times, print what went wrong and the summary, and return the number of faults."""
    outcomes = collections.Counter[str]()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(count):
            draw, moment = random.Random(f"{seed} {number}"), MOMENTS[number % len(MOMENTS)]
            workdir = Path(scratch, str(number))
            processes = start(workdir, Path(scratch, "cache"))
            victim = draw.randrange(2)
            wait_for(moment, workdir, draw, processes)
            late = any(process.poll() is not None for process in processes)
            processes[victim].kill()
            processes[victim].wait()
            begin, other = time.monotonic(), processes[1 - victim]
            try:
                code = other.wait(SECONDS)
            except subprocess.TimeoutExpired:
                other.kill()
                code = other.wait()
            errors = (workdir.parent / f"{workdir.name}.err{1 - victim}").read_text()
            paragraphs = [line for line in errors.splitlines() if line.startswith("error: ")]
            clean = len(paragraphs) == 1 and not any(text in errors for text in JAX_LINES)
            not_joined = moment == "start" and code == 2 and "coordinator_timeout" in errors
            right = clean and (code == LOST or not_joined)
            outcome = "late" if late else "not joined yet" if right and not_joined else "right" if right else "fault"
            outcomes[outcome] += 1
            took = time.monotonic() - begin
            what = f"process {victim} killed in {moment}: {outcome}, exit code {code}, {took:.1f} s"
            print(f"{number}: {what}", flush=True)
            if outcome == "fault":
                print(errors[-3000:], flush=True)
    print(
        f"lost_process: seed {seed}, {count} kills: {outcomes['right']} ended with exit code {LOST} and one paragraph, "
        f"{outcomes['not joined yet']} were killed before they had joined, {outcomes['late']} after the end, "
        f"{outcomes['fault']} faults."
    )
    return outcomes["fault"]


if __name__ == "__main__":
    options = arguments.parse(__doc__, 20, "kills")
    sys.exit(1 if campaign(options.seed, options.count) else 0)
