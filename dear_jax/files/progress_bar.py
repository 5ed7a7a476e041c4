"""How far a long part of a job is: a bar on a terminal, a plain line now and then where the output is a file.

Of what has no parts to count, as compiling, a line says that it is under way, once it takes long.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

BETWEEN_LINES = 10.0  # seconds
DELAY = 5.0  # seconds of silence that nobody minds


def bar(iterable: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """tqdm's bar, or its numbers in lines of their own, so that a log file holds no carriage returns.

    Args:
        iterable: what is gone through, if it is.
        **options: of tqdm: desc, total, unit, initial, delay, disable.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, mininterval=1.0, file=sys.stderr, **options)
    line = "{desc}: {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} to go, {rate_fmt}{postfix}"
    return _Lines(iterable, mininterval=BETWEEN_LINES, miniters=1, bar_format=line, file=sys.stderr, **options)


@contextlib.contextmanager
def waiting(what: str, disable: bool = False) -> Iterator[None]:
    """Says `what` is under way where that takes longer than `DELAY`; with `disable` it never does."""

    def say() -> None:
        print(f"{what} ...", file=sys.stderr, flush=True)

    timer = threading.Timer(DELAY, say)
    timer.daemon = True
    if not disable:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Lines(tqdm):
    """A bar that writes each of its states on a line of its own."""

    disable: bool

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """What writes a state; tqdm's own begins with a carriage return."""

        def write(state: str) -> None:
            file.write(f"{state}\n")
            file.flush()

        return write

    def close(self) -> None:
        """The last state, once, and no empty line behind it."""
        if not self.disable:
            if self.n > self.last_print_n and self.format_dict["elapsed"] >= self.delay:
                self.refresh()
            self.disable = True
            self._decr_instances(self)
