"""Progress of a training run: a bar on the screen, rows in metrics.jsonl, and an eye on non-finite losses.

Every named scalar of the step becomes a column of metrics.jsonl.
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from dear_jax.errors import UserError
from dear_jax.files import progress_bar
from dear_jax.files.workdir import Workdir
from dear_jax.training.step import Metrics


class ProgressLog:
    """Progress on screen and in metrics.jsonl. Values are read one step late, so that the device never waits."""

    def __init__(
        self,
        files: Workdir,
        names: Sequence[str],
        seeds: Sequence[int],
        batch_size: int,
        every: int,
        steps: int,
        epoch_steps: int,
        first_step: int,
    ):
        """`names` are the variants of all programs in turn, `batch_size` images per seed, `every` steps a row."""
        self.names, self.seeds, self.every = tuple(names), tuple(seeds), every
        self.images_per_step = len(seeds) * batch_size
        self.files, self.epoch_steps, self.first_step = files, epoch_steps, first_step
        self._pending: tuple[int, Sequence[Metrics]] | None = None
        self._rows: list[dict[str, np.ndarray]] = []
        self._row_start = self._start = time.perf_counter()
        self._bar = progress_bar.bar(
            total=steps, initial=first_step, desc="Training", unit="step", disable=jax.process_index() > 0
        )

    def __enter__(self) -> "ProgressLog":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def add(self, number: int, step_metrics: Sequence[Metrics]) -> None:
        """Take the metrics `[S, V]` of every program at step `number`; record those of the step before."""
        previous, self._pending = self._pending, (number, step_metrics)
        if previous is not None:
            self._record(*previous)

    def flush(self) -> None:
        """Wait for the last step and write its row, and those that wait for a bucket."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._record(*pending)
            self._write(pending[0])
        self.files.flush_metrics()

    def _record(self, number: int, step_metrics: Sequence[Metrics]) -> None:
        values = {
            name: np.concatenate([np.asarray(metrics[name]) for metrics in step_metrics], axis=1)
            for name in step_metrics[0]
        }
        _check_finite(number, values, self.names, self.seeds)
        self._rows.append(values)
        self._bar.update()
        self._bar.set_postfix(
            loss=f"{values['loss'].mean():.3f}",
            accuracy=f"{np.mean([row['accuracy'].mean() for row in self._rows]):.2f}",
            images_per_s=f"{self._rate():.0f}",
            refresh=False,
        )
        if number % self.every == 0:
            self._write(number)

    def _rate(self) -> float:
        """Images of all seeds per second since the last row."""
        return len(self._rows) * self.images_per_step / (time.perf_counter() - self._row_start)

    def _write(self, number: int) -> None:
        """A row of means since the last row, per variant a list over seeds."""
        if not self._rows:
            return
        row: dict[str, Any] = {
            "step": number,
            "epoch": round(number / self.epoch_steps, 4),
            "seconds": round(time.perf_counter() - self._start, 3),
            "images_per_second": round(self._rate(), 1),
        }
        for name in self._rows[0]:
            mean = np.mean([values[name] for values in self._rows], axis=0)
            row[name] = {
                variant: [float(f"{value:.7g}") for value in mean[:, v]] for v, variant in enumerate(self.names)
            }
        self.files.append_metrics(row)
        self._rows, self._row_start = [], time.perf_counter()


def _check_finite(number: int, values: dict[str, np.ndarray], names: Sequence[str], seeds: Sequence[int]) -> None:
    bad = ~(np.isfinite(values["loss"]) & np.isfinite(values["gradient_norm"]))
    if bad.any():
        s, v = map(int, np.argwhere(bad)[0])
        which = f"seed {seeds[s]}" + (f", variant {names[v]}" if len(names) > 1 else "")
        raise UserError(
            f"Step {number}, {which}: the loss is {values['loss'][s, v]} and the gradient norm "
            f"{values['gradient_norm'][s, v]}. The run stops; what it saved before is good. Lower "
            "config.optimizer.learning_rate or the loss weights, or look for bad images."
        )
