"""`metrics.jsonl`: rows in JSON, one to a line, added as a run goes on."""

import json
import math
from collections.abc import Mapping
from typing import Any

from etils import epath

from dear_jax.files import json_files
from dear_jax.files.growing_file import GrowingFile

AFTER_STEPS = {"fit", "evaluation"}  # columns of rows that have the last step's number


class MetricsFile:
    """Rows of metrics, each of which names its `step`. All methods may raise `storage.failures()`."""

    def __init__(self, path: epath.Path) -> None:
        self.path = path
        self._file = GrowingFile(path)

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row of JSON's own types."""
        self._file.append(f"{json.dumps(row, allow_nan=False)}\n".encode())

    def flush(self) -> None:
        """Have every row where another process finds it."""
        self._file.flush()

    def trim(self, step: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Drop what a resumed run writes again: rows after `step` (-1: all), or after all steps; and a torn one.

        Returns:
            The rows that there were, and those that there are.
        """
        lines = self._file.read().decode(errors="replace").splitlines()
        kept = [line for line in lines if _step_of(line) <= step]
        if lines:
            self._file.replace("".join(f"{line}\n" for line in kept).encode())
        return [row for line in lines if (row := _parse(line))], [json_files.parse(line) for line in kept]


def _parse(line: str) -> dict[str, Any]:
    """A row; nothing for one that is torn or names no step."""
    try:
        row = json_files.parse(line)
        float(row["step"])
    except (ValueError, TypeError, KeyError):
        return {}
    return dict(row)


def _step_of(line: str) -> float:
    """The step of a row; infinity for a torn one, and for what comes after all steps."""
    row = _parse(line)
    return float(row["step"]) if row and not AFTER_STEPS & row.keys() else math.inf
