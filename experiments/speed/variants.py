"""Eight mask patterns as variants of one run, against eight runs of one pattern each.

    python -m experiments.speed.variants [--config.KEY=VALUE ...]

runs `dear_jax.main` nine times with the same steps (one epoch, three seeds, unless the flags say otherwise), a process
each, and prints how the first compares with the sum of the others: wall time, processor time, and the largest memory of
a process, beside what `--dry_run` states for a step. Processor time does not depend on what else the machine does.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from dear_jax.report.text_tables import to_markdown

PATTERNS = {
    "roles": "mask.pattern=roles",
    "open": "mask.pattern=open",
    "isolated": "mask.pattern=isolated",
    "random_0": "mask.pattern=random; mask.seed=0",
    "random_1": "mask.pattern=random; mask.seed=1",
    "layer_wise": "mask.pattern=layer_wise",
    "permuted": "mask.pattern=permuted",
    "only_attribute": "mask.pattern=only_attribute",
}
TOGETHER = " | ".join(f"{name}: {overrides}" for name, overrides in PATTERNS.items())


class Cost(NamedTuple):
    """Of a whole process."""

    wall: float  # seconds
    processor: float  # seconds, user and system, of all its threads
    memory: float  # MiB, the largest resident set


def main(flags: list[str]) -> None:
    """Measure and print the table."""
    command = [sys.executable, "-m", "dear_jax.main", "--config=configs/base2new.py", "--config.train.epochs=1", *flags]
    dry = [*command, f"--config.variants={TOGETHER}", "--dry_run"]
    said = subprocess.run(dry, check=True, capture_output=True, text=True).stdout
    (stated,) = re.findall(r"memory of a step +([\d,]+ MiB)", said)
    with tempfile.TemporaryDirectory() as folder:
        together = measure([*command, f"--config.variants={TOGETHER}", f"--workdir={Path(folder) / 'together'}"])
        alone = [
            measure([*command, f"--config.variants={name}: {overrides}", f"--workdir={Path(folder) / name}"])
            for name, overrides in PATTERNS.items()
        ]
    wall, processor = (sum(getattr(cost, name) for cost in alone) for name in ("wall", "processor"))
    largest = max(cost.memory for cost in alone)
    measured = {
        "wall time, s": (together.wall, wall),
        "processor time, s": (together.processor, processor),
        "memory of a process, MiB": (together.memory, largest),
    }
    rows = [[name, f"{one:.0f}", f"{eight:.0f}", f"{one / eight:.2f}"] for name, (one, eight) in measured.items()]
    print(to_markdown(["", "eight variants of one run", "eight runs", "ratio"], rows))
    print(f"\nMemory of a step of the eight variants by --dry_run: {stated}")


def measure(command: list[str]) -> Cost:
    """Run a command to its end; its output goes nowhere."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}")
    return Cost(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main(sys.argv[1:])
