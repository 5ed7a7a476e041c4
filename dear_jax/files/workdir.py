"""The folder of a run: `config.json`, `metrics.jsonl`, `results.json`, `results.md`, `checkpoints/`.

In: a path, on a disk or in a bucket, and the resolved config. Out: files that are whole at any moment, a refusal of a
second config or a second process, and the rows of metrics.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import json_files, live_metrics, storage
from dear_jax.files.live_metrics import Logging, Sink
from dear_jax.files.lock import Lock
from dear_jax.files.metrics_file import MetricsFile

DRAWN_SPLITS = "splits.json"  # where a job had to draw splits

@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The config that a workdir belongs to, as plain values."""

    values: Mapping[str, Any]  # nested, as config.json has them
    free: frozenset[str] = frozenset()  # dotted keys that a second start may change
    upgrade: Callable[[Any], Any] = lambda values: values  # brings what an earlier version wrote up to date


class Workdir:
    """One run's folder, created if needed and held by one process at a time until `close`.

    Of the processes of one job the first alone locks and writes it; with `writes=False` what would write does nothing.
    """

    def __init__(self, path: epath.PathLike, writes: bool = True) -> None:
        self.path = storage.absolute(storage.to_path(path))
        self._writes = writes
        self._lock: Lock | None = None
        self._sinks: Sequence[Sink] = ()
        if not writes:
            return
        with storage.refusals_answered(f"cannot make the workdir {self.path}"):
            self.path.mkdir(parents=True, exist_ok=True)
        with storage.refusals_answered(f"cannot write to the workdir {self.path}"):
            self._lock = Lock(self.path)
            storage.remove_temporaries(self.path)  # of processes that were killed: nobody else writes here
        self._metrics = MetricsFile(self.path / "metrics.jsonl")

    @property
    def checkpoints(self) -> epath.Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def check_config(self, config: RunConfig) -> str:
        """Write `config.json` at the first start; refuse another config once the run has begun.

        Returns:
            The SHA-256 of the file, which `results.json` repeats; empty for a process that does not write.
        """
        new, path = config.values, self.path / "config.json"
        if not self._writes:
            return ""
        if path.exists():
            old = config.upgrade(self.read_json("config.json"))
            differences = [
                f"{key} was {was}, now {now}"
                for key, was, now in _differences(old, json.loads(json.dumps(new)))
                if key not in config.free
            ]
            if differences and self._begun():
                raise UserError(
                    f"workdir {self.path} holds a run of another config: {'; '.join(differences)}. "
                    "Give another --workdir, or the same config to go on with that run."
                )
            if differences:  # the first start ended with a refusal: nothing of it counts
                (self.path / DRAWN_SPLITS).unlink(missing_ok=True)
        self.write_json("config.json", new)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    def _begun(self) -> bool:
        """Whether a run has left anything here beside its config and the splits that it drew."""
        folders, files = storage.entries(self.path)
        return bool(folders or set(files) - {"config.json", ".lock", DRAWN_SPLITS})

    def read_json(self, name: str) -> dict[str, Any]:
        """The object that a file of this folder holds, checked: see `json_files.read_object`."""
        return json_files.read_object(self.path / name)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write or replace a file, sealed; arrays become numbers or lists, what is not finite null."""
        self.write_text(name, json_files.to_text(_plain(value)))

    def write_text(self, name: str, text: str) -> None:
        """Write or replace a file: whoever reads it sees the old or the new one, never a part.

        A name may be that of a file in a folder here, which is made.
        """
        self._write(name, text)

    def write_bytes(self, name: str, content: bytes) -> None:
        """The same for bytes."""
        self._write(name, content)

    def _write(self, name: str, content: str | bytes) -> None:
        if not self._writes:
            return
        path = self.path / name
        if path.parent != self.path:
            with storage.refusals_answered(f"cannot make the folder {path.parent}"):
                path.parent.mkdir(exist_ok=True)
        storage.write(path, content)

    def send_metrics(self, logging: Logging, config: Mapping[str, Any]) -> None:
        """Also give the rows to what is asked for, from the next `trim_metrics` on.

        Raises:
            UserError: a tracker that does not take the run.
        """
        if self._writes:
            self._sinks = live_metrics.open_sinks(logging, self.path, config)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add a row, which names its `step`, to `metrics.jsonl`."""
        if self._writes:
            with self._metrics_answered():
                plain = _plain(row)
                for write in (self._metrics.append, *(sink.write for sink in self._sinks)):
                    write(plain)

    def flush_metrics(self) -> None:
        """Write the rows that wait, which they do where the workdir is in a bucket."""
        if self._writes:
            with self._metrics_answered():
                self._metrics.flush()
                for sink in self._sinks:
                    sink.flush()

    def trim_metrics(self, step: int) -> None:
        """Drop what a resumed run writes again: see `MetricsFile.trim`."""
        if self._writes:
            with self._metrics_answered():
                earlier, kept = self._metrics.trim(step)
                for sink in self._sinks:
                    sink.begin(earlier, kept)

    def _metrics_answered(self) -> AbstractContextManager[None]:
        return storage.refusals_answered(f"cannot write {self._metrics.path}")

    def close(self) -> None:
        """Let another process have the folder."""
        try:
            self.flush_metrics()
            for sink in self._sinks:
                sink.close()
        finally:
            if self._lock is not None:
                self._lock.close()

    def __enter__(self) -> "Workdir":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _differences(old: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted keys whose values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            path = f"{prefix}.{key}" if prefix else key
            if key not in old or key not in new:
                was, now = (repr(tree[key]) if key in tree else "absent" for tree in (old, new))
                yield path, was, now
            else:
                yield from _differences(old[key], new[key], path)
    elif old != new:
        yield prefix, repr(old), repr(new)


def _plain(value: Any) -> Any:
    """The value in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's and JAX's arrays and scalars
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
