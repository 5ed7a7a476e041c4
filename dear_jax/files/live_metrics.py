"""The rows of metrics.jsonl, as they are written, also to where curves are looked at while a run goes on.

A row is taken apart into named numbers by `numbers`, and given to every sink: event files for TensorBoard
(`event_file`), and `Tracker`, for Weights & Biases and for trackio, which has the same functions.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import local_copy, storage

Row = Mapping[str, Any]
TRACKERS = ("wandb", "trackio")
ONLY = "default"  # what the only variant of a run is called


@dataclasses.dataclass(frozen=True)
class Logging:
    """Where metrics go beside metrics.jsonl: keys of `config.log`."""

    tensorboard: bool = False  # event files in the workdir
    wandb: str = ""  # project of Weights & Biases; empty: none
    trackio: str = ""  # project of trackio; empty: none

    @property
    def libraries(self) -> dict[str, str]:
        """Key -> the library that it needs, of those that are asked for."""
        asked = {"tensorboard": self.tensorboard, **{name: getattr(self, name) for name in TRACKERS}}
        return {key: "tensorboardX" if key == "tensorboard" else key for key, wanted in asked.items() if wanted}

    def check(self) -> None:
        """Refuse what cannot be written before anything is done.

        Raises:
            UserError: a library that is not installed.
        """
        for key, library in self.libraries.items():
            try:
                importlib.import_module(library)
            except ImportError as error:
                raise UserError(
                    f"config.log.{key} needs {library} ({error}). Install it by pip install -e '.[{key}]' "
                    f"(pip install {library}), or leave the key out: metrics.jsonl has the same numbers."
                ) from error


class Sink(Protocol):
    """What takes rows of numbers. All methods may raise `storage.failures()`."""

    def begin(self, earlier: Sequence[Row], kept: Sequence[Row]) -> None:
        """A start of the run: the rows of earlier starts, and those of them that this one does not write again."""

    def write(self, row: Row) -> None:
        """A row with its `step`."""

    def flush(self) -> None:
        """Have all where another process finds it."""

    def close(self) -> None:
        """No more rows come."""


def open_sinks(logging: Logging, folder: epath.Path, config: Mapping[str, Any]) -> list[Sink]:
    """The sinks of a run in this workdir.

    Raises:
        UserError: a tracker that does not take the run.
    """
    sinks: list[Sink] = []
    if logging.tensorboard:
        from dear_jax.files.event_file import EventFile  # which imports tensorboardX

        sinks.append(EventFile(folder, config["seeds"]))
    projects = {name: getattr(logging, name) for name in TRACKERS}
    return sinks + [Tracker(name, project, folder, config) for name, project in projects.items() if project]


def numbers(row: Row, seeds: Sequence[int]) -> dict[str, float]:
    """Tag -> number: keys with slashes between, of a list over the seeds `seed_N`; what is no number is left out.

    The only variant of a run has no name in a tag.
    """
    return {"/".join(names): float(value) for names, value in _leaves(row, seeds) if names != ("step",)}


def _leaves(value: Any, seeds: Sequence[int], names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _leaves(inner, seeds, names if name == ONLY else (*names, str(name)))
    elif isinstance(value, list | tuple):
        of_seeds = len(value) == len(seeds)
        for index, inner in enumerate(value):
            name = f"seed_{seeds[index]}" if of_seeds else str(index)
            yield from _leaves(inner, seeds, (*names, name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield names, value


class Tracker:
    """A run of Weights & Biases or of trackio, called after the workdir; a second start goes on with it.

    What these raise later on is said once, and the run goes on without them: metrics.jsonl has all.
    """

    def __init__(self, library: str, project: str, folder: epath.Path, config: Mapping[str, Any]) -> None:
        """Begin the run, or go on with it.

        Raises:
            UserError: the library refuses.
        """
        self._library, self._seeds = library, config["seeds"]
        self._sent: set[tuple[Any, ...]] = set()
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        identity = re.sub(r"[^\w.-]", "-", f"{folder.name}-{digest}")
        own: dict[str, Any] = {"name": identity}
        if library == "wandb":
            own = {"name": folder.name, "id": identity, "dir": str(local_copy.local_folder(folder))}
        module = importlib.import_module(library)
        try:
            self._run = module.init(project=project, config=dict(config), resume="allow", **own)
        except Exception as error:  # of any kind, theirs or of the network
            raise UserError(
                f"config.log.{library}: {library} cannot begin a run of the project {project} "
                f"({storage.reason(error)}). Log in, work offline (WANDB_MODE=offline), or leave the key out: "
                "metrics.jsonl has the same numbers."
            ) from error

    def begin(self, earlier: Sequence[Row], kept: Sequence[Row]) -> None:
        """What earlier starts have sent is not sent again: what a resumed run computes anew is the same."""
        self._sent = {_identity(row) for row in earlier}

    def write(self, row: Row) -> None:
        """Send a row."""
        if self._run is not None and _identity(row) not in self._sent:
            self._attempt(lambda: self._run.log(numbers(row, self._seeds), step=row["step"]))

    def flush(self) -> None:
        """They do so by themselves."""

    def close(self) -> None:
        """Wait until all is sent."""
        if self._run is not None:
            self._attempt(self._run.finish)
            self._run = None

    def _attempt(self, action: Any) -> None:
        try:
            action()
        except Exception as error:
            self._run = None
            why = storage.reason(error)
            print(f"{self._library} takes no more metrics ({why}); metrics.jsonl has them.", flush=True)


def _identity(row: Row) -> tuple[Any, ...]:
    """Of the rows of one step there may be one of the training, of a fit and of the evaluation."""
    return (row["step"], *sorted(row))
