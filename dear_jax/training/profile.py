"""A trace of some steps (`config.log.profile`), by JAX's profiler: what host and devices do at what time."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import local_copy, storage
from dear_jax.parallel import processes

FOLDER = "profile"  # in the workdir
Span = tuple[int, int]  # first and last step, counted from 1


def check(span: Span | None, steps: int) -> None:
    """Refuse steps that a run does not have.

    Raises:
        UserError: it has fewer.
    """
    if span and span[1] > steps:
        has = f"this run has {steps} steps" if steps else "this method is fitted to its images at once, without steps"
        raise UserError(f"config.log.profile is {span[0]}:{span[1]}, and {has}. Give others, or leave it out.")


class Profile:
    """Traces the steps of a span, in the first process; a run that goes on within the span traces the rest of it."""

    def __init__(self, span: Span | None, workdir: epath.Path, first_step: int) -> None:
        """Of a run that begins after `first_step`."""
        self._first, self._last = span if span and processes.is_first() else (0, 0)
        self._target, self._traced = workdir / FOLDER, 0
        if 0 < self._last <= first_step:
            print(f"Steps {self._first} to {self._last} were before this start: they are not traced.", flush=True)
        self._first = max(self._first, first_step + 1)

    @contextlib.contextmanager
    def steps(self) -> Iterator[None]:
        """End the trace also where the steps end before its last one."""
        try:
            yield
        finally:
            if self._traced:
                self._end(self._traced)

    def before(self, number: int) -> None:
        """Step `number` comes."""
        if self._first <= number <= self._last and not self._traced:
            self._folder = local_copy.local_folder(self._target)
            jax.profiler.start_trace(str(self._folder))
        if self._first <= number <= self._last:
            self._traced = number

    def after(self, number: int, outputs: Sequence[Any]) -> None:
        """Step `number` was started and gives these arrays."""
        if self._traced and number == self._last:
            jax.block_until_ready(outputs)
            self._end(number)

    def _end(self, number: int) -> None:
        self._traced = 0
        with storage.refusals_answered(f"cannot write the trace {self._target}"):
            jax.profiler.stop_trace()
            if storage.is_remote(self._target):
                local_copy.upload(self._folder, self._target)
        print(
            f"\nTrace of the steps {self._first} to {number}: {self._target}. Look at it by `tensorboard "
            f"--logdir={self._target}` (pip install tensorboard xprof), or open its *.trace.json.gz in "
            "https://ui.perfetto.dev.",
            flush=True,
        )
