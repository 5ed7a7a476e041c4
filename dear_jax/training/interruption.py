"""SIGTERM and Ctrl-C, answered between two steps: preempted machines and impatient people lose nothing."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from etils import epath


class Terminated(KeyboardInterrupt):
    """SIGTERM outside the training loop, where there is nothing to save."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, as Ctrl-C raises KeyboardInterrupt."""

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class Interruption:
    """Turns SIGTERM and Ctrl-C into a request that the loop can answer between two steps."""

    def __init__(self) -> None:
        self.requested = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.requested:  # asked twice: at once
            raise KeyboardInterrupt
        self.requested = number

    def leave(self, requested: int, step_number: int, workdir: epath.Path) -> None:
        """Exit with the shell's code of the signal `requested`, which this or another process of the job has got."""
        name = signal.Signals(requested).name
        print(f"\n{name}: saved step {step_number}. The same config with --workdir={workdir} goes on from here.")
        raise SystemExit(128 + requested)
