"""SIGTERM and Ctrl-C, answered between two steps: preempted machines and impatient people lose nothing."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from etils import epath

RESEND_SECONDS = 0.1  # after which a signal whose exception was lost comes again


class Terminated(KeyboardInterrupt):
    """SIGTERM outside the training loop, where there is nothing to save."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, as Ctrl-C raises KeyboardInterrupt; neither is lost.

    Python drops what is raised in a finalizer, or in a callback of the garbage collector such as JAX has: then the
    signal is sent again.
    """
    timers: list[threading.Timer] = []

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    def resend(unraisable: Any) -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            hook(unraisable)
            return
        number = signal.SIGTERM if issubclass(unraisable.exc_type, Terminated) else signal.SIGINT
        timers.append(threading.Timer(RESEND_SECONDS, os.kill, (os.getpid(), number)))
        timers[-1].daemon = True
        timers[-1].start()

    previous = signal.signal(signal.SIGTERM, terminate)
    hook, sys.unraisablehook = sys.unraisablehook, resend
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        if sys.unraisablehook is resend:
            sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, previous)


class Interruption:
    """Turns SIGTERM and Ctrl-C into a request that the loop can answer between two steps."""

    def __init__(self) -> None:
        self.requested = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():  # no other gets signals
            return self
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
