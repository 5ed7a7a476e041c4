"""How long a training step took, from the rows of a run's `metrics.jsonl`.

It is not in results.json, which is the same however often a run was stopped and whatever machine it ran on.
"""

import itertools
import statistics
from collections.abc import Iterator
from pathlib import Path

from dear_jax.files import json_files


def step_seconds(file: Path) -> float | None:
    """Seconds of a step, of all its seeds and variants: the median over the rows; None where no row has times.

    A row says how many seconds its start has taken so far, so that the pause before a run went on is in none, and the
    median has neither checkpoints nor slow first steps in it.
    """
    paces = [
        (seconds - earlier) / (step - before)
        for (before, earlier), (step, seconds) in itertools.pairwise([(0, 0.0), *_times(file)])
        if step > before and seconds > earlier  # no pace from one start to the next
    ]
    return statistics.median(paces) if paces else None


def _times(file: Path) -> Iterator[tuple[int, float]]:
    """Step and seconds of the rows of training; what cannot be read has none."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            row = json_files.parse(line)
            if "evaluation" not in row:
                yield int(row["step"]), float(row["seconds"])
        except (ValueError, TypeError, KeyError, OverflowError):  # a torn row
            continue
