"""Everything that BENCHMARKS.md wants from an accelerator, as one command for the half hour in which there is one.

    python -m experiments.speed.accelerator --out=runs/accelerator --minutes=30
    python -m experiments.speed.accelerator --out=runs/accelerator --method=mmrl --beside="official=python official.py"

The parts, the most wanted first, each a process with its own log below --out:

- steps: one and three seeds, bfloat16 and float32, in turns with plain PyTorch (left out without torch) and with what
  --beside names (the official trainer of --method, see `experiments.speed.step`); share of the rate of matrix products;
- trace: a `jax.profiler` trace summed up by kind of operation (`experiments.speed.trace`);
- attention: the package's beside "xla" and "cudnn" of `jax.nn.dot_product_attention` (`experiments.speed.attention`);
- evaluation: images/s of a run's and a job's pass beside the plain encoder;
- run: few-shot with 16 shots on the embedded world, from start to results.

What is finished is kept: the same command goes on with the rest, in this half hour or the next one. A part that fails
is named and does not stop the others. `summary.md` has what all of them printed, with device, versions and commands.
--small tries everything on a CPU at sizes that take minutes.
"""

import argparse
import dataclasses
import importlib.metadata
import itertools
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

CASES = ("50,4", "500,4", "500,32", "1000,256")
SEEDS = (1, 3)
DTYPES = ("bfloat16", "float32")
FEW_SHOT = ("--config=configs/few_shot.py",)
PACKAGES = ("jax", "jaxlib", "flax", "torch", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu")


@dataclasses.dataclass(frozen=True)
class Part:
    """A command, and how long it may take."""

    name: str
    module: str
    arguments: tuple[str, ...]
    minutes: float

    def command(self, folder: Path) -> list[str]:
        """What to start."""
        place = folder / self.name
        results = f"--workdir={place}" if self.module == "dear_jax.main" else f"--json={place}.jsonl"
        return [sys.executable, "-m", self.module, *self.arguments, results]


def main() -> None:
    """Run the parts; exit code 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--minutes", type=float, default=30, help="in all; what is not done then is cut off")
    parser.add_argument("--method", action="append", default=[], help="also its steps")
    parser.add_argument("--beside", action="append", default=[], help="NAME=COMMAND, as of experiments.speed.step")
    parser.add_argument("--small", action="store_true", help="sizes for a CPU")
    parser.add_argument("--dry_run", action="store_true", help="list the commands")
    options = parser.parse_args()
    parts = small_parts() if options.small else all_parts(options.method, options.beside)
    if options.dry_run:
        print("\n".join(shlex.join(part.command(options.out)) for part in parts))
        return
    failed = run(parts, options.out, options.minutes)
    print((options.out / "summary.md").read_text())
    sys.exit(int(bool(failed)))


def all_parts(methods: Sequence[str], beside: Sequence[str]) -> list[Part]:
    """The parts of a GPU's half hour."""
    step, turns = "experiments.speed.step", ("--rounds=3", "--steps=10")
    others = tuple(f"--beside={text}" for text in beside)
    parts = []
    for dtype, case, seeds in itertools.product(DTYPES, CASES, SEEDS):
        name = f"steps_{case.replace(',', '_')}_{seeds}_{dtype}"
        parts.append(Part(name, step, (f"--case={case},{seeds}", f"--dtype={dtype}", *turns), 6))
    for method in methods:
        arguments = (f"--method={method}", *(f"--case={case},1" for case in CASES[:2]), f"--dtype={DTYPES[0]}")
        parts.append(Part(f"steps_{method}", step, (*arguments, "--torch=false", *turns, *others), 8))
    cases = tuple(f"--case={case},1" for case in CASES[:3])
    trace = Part("trace", "experiments.speed.trace", (*cases, f"--dtype={DTYPES[0]}", "--steps=10"), 6)
    sizes = tuple(f"--images={count}" for count in (4, 32, 256))
    attention = Part("attention", "experiments.speed.attention", (*sizes, *(f"--dtype={name}" for name in DTYPES)), 5)
    evaluated = ("--case=50,4,1", "--case=50,32,1", "--case=50,256,1", f"--dtype={DTYPES[0]}")
    evaluation = Part("evaluation", step, (*evaluated, "--torch=false", "--evaluation=true", *turns), 5)
    whole = Part("run", "dear_jax.main", (*FEW_SHOT, "--config.data.shots=16"), 8)
    return [*parts[:4], trace, attention, evaluation, whole, *parts[4:]]


def small_parts() -> list[Part]:
    """The same parts, so small that a CPU shows that they work."""
    tiny, turns = "--image_size=32", ("--rounds=1", "--steps=1")
    sizes = ("--case=6,2,1", tiny)
    return [
        Part("steps_small", "experiments.speed.step", (*sizes, "--torch=false", *turns), 10),
        Part("trace", "experiments.speed.trace", (*sizes, "--steps=1"), 10),
        Part("attention", "experiments.speed.attention", ("--images=1", "--rounds=1", "--calls=1"), 5),
        Part("evaluation", "experiments.speed.step", (*sizes, "--torch=false", "--evaluation=true", *turns), 10),
        Part("run", "dear_jax.main", (*FEW_SHOT, "--config.data.shots=1", "--config.train.steps=2"), 10),
    ]


def run(parts: Sequence[Part], folder: Path, minutes: float) -> list[str]:
    """Run what is not finished, while there is time; the names of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    failed = []
    for number, part in enumerate(parts, start=1):
        log, done = folder / f"{part.name}.txt", folder / f"{part.name}.done"
        left = min(60 * part.minutes, end - time.monotonic())
        if done.exists() or left <= 0:
            why = "done before" if done.exists() else "no time left"
            print(f"[{number}/{len(parts)}] {part.name}: {why}", flush=True)
            continue
        print(f"[{number}/{len(parts)}] {part.name}: at most {left / 60:.0f} minutes", flush=True)
        (folder / f"{part.name}.jsonl").unlink(missing_ok=True)  # of a try that was cut off
        start = time.monotonic()
        with log.open("w") as file:
            file.write(shlex.join(part.command(folder)) + "\n")
            file.flush()
            problem = execute(part.command(folder), file, left)
        if problem:
            failed.append(part.name)
            print(f"  {problem}; see {log}", flush=True)
        else:
            done.write_text(f"{time.monotonic() - start:.1f} seconds\n")
        (folder / "summary.md").write_text(summary(parts, folder))
    (folder / "summary.md").write_text(summary(parts, folder))
    return failed


def execute(command: Sequence[str], log: IO[str], seconds: float) -> str:
    """Why a command did not end well; empty if it did. All that it started ends with it."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # a step's processes share the card
    with subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    ) as process:
        try:
            code = process.wait(seconds)
        except BaseException as error:
            os.killpg(process.pid, 9)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return f"cut off after {seconds / 60:.0f} minutes"
    return f"exit code {code}" if code else ""


def summary(parts: Sequence[Part], folder: Path) -> str:
    """What the finished parts printed, as a page."""
    versions = [f"{name} {version}" for name in PACKAGES if (version := _version(name))]
    text = ["# What an accelerator says", "", f"{', '.join(versions)}; commit {_commit()}.", ""]
    for part in parts:
        done, log = folder / f"{part.name}.done", folder / f"{part.name}.txt"
        state = "failed or cut off" if log.exists() else "not run"
        state = done.read_text().strip() if done.exists() else state
        text += [f"## {part.name}: {state}", ""]
        if log.exists():
            text += ["```", log.read_text(errors="replace").strip()[-6000:], "```", ""]
    return "\n".join(text)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
