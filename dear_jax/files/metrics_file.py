"""`metrics.jsonl`: rows in JSON, one to a line, added as a run goes on.

A file on a disk grows by a row at a time. An object in a bucket cannot grow and may be replaced once a second at most:
there rows wait in memory, and the object is written anew every half minute, at `flush` and so at every checkpoint.
"""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from etils import epath

from dear_jax.files import json_files, storage

PERIOD = 30.0  # seconds between two writes to a bucket
AFTER_STEPS = {"fit", "evaluation"}  # columns of rows that have the last step's number


class MetricsFile:
    """Rows of metrics, each of which names its `step`. All methods may raise `storage.failures()`."""

    def __init__(self, path: epath.Path) -> None:
        self.path = path
        self._lines: list[str] = []  # in a bucket: the whole content
        self._written = 0  # how many of them are in the object
        self._next_write = 0.0
        if storage.is_remote(path):
            self._lines = self._read()
            self._written = len(self._lines)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row of JSON's own types."""
        line = json.dumps(row, allow_nan=False)
        if not storage.is_remote(self.path):
            with self.path.open("a") as file:
                file.write(f"{line}\n")
            return
        self._lines.append(line)
        if time.monotonic() >= self._next_write:
            self.flush()

    def flush(self) -> None:
        """Have every row where another process finds it."""
        if self._written != len(self._lines):
            self._write(self._lines)

    def trim(self, step: int) -> None:
        """Drop what a resumed run writes again: rows after `step` (-1: all), or after all steps; and a torn one."""
        lines = self._read()
        if lines:
            self._write([line for line in lines if _step_of(line) <= step])

    def _read(self) -> list[str]:
        try:
            return self.path.read_bytes().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _write(self, lines: list[str]) -> None:
        storage.write_atomically(self.path, "".join(f"{line}\n" for line in lines))
        if storage.is_remote(self.path):
            self._lines, self._written = list(lines), len(lines)
            self._next_write = time.monotonic() + PERIOD


def _step_of(line: str) -> float:
    """The step of a row; infinity for a torn one, and for what comes after all steps."""
    try:
        row = json_files.parse(line)
        return math.inf if AFTER_STEPS & row.keys() else float(row["step"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return math.inf
