"""The screen of a process: whoever reads it may go away, or take few characters, and the work goes on."""

import io
import os
import sys
from typing import Any


def make_lasting() -> None:
    """Replace stdout and stderr by ones that never end the process.

    A character that the encoding does not have is written as an escape. Once a pipe is closed (`| head`), or the disk
    of a log is full, what is written goes nowhere.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed before the start
            nowhere = open(os.devnull, "w", errors="backslashreplace")  # noqa: SIM115 - while the process lives
            setattr(sys, name, nowhere)
            continue
        try:
            descriptor = stream.fileno()
        except (OSError, AttributeError):  # a notebook's, or a test's
            continue
        stream.flush()
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(_Lasting(descriptor, "w", closefd=False)),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering or name == "stderr",
            ),
        )


class _Lasting(io.FileIO):
    """A file that takes what is written even where it can no longer keep it."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            return len(data)
