"""Checkpoints: the state of a run, its place in the data and what it was made with, saved in the background.

In: a tree of arrays (never what is frozen), the step, the data iterator's state and metadata in JSON's
types. Out: `checkpoints/<step>/`, written by Orbax beside its place and renamed into it (in a bucket: in its
place, and whole once `commit_success.txt` is there), with the SHA-256 of every file: Orbax alone restores a
flipped bit as if it were a number. A step that was half written is cleared away at the next start; a damaged
one is set aside for the one before it.
"""

import contextlib
import errno
import functools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding

from dear_jax.errors import UserError
from dear_jax.files import checksums, json_files, storage

DAMAGED = "damaged"  # folder among the steps; in a bucket: beside theirs
# What Orbax and TensorStore take for a pattern, or for a folder's end, wherever it stands in a path.
MARKS = frozenset("[]*?\\")
# What the operating system may refuse during a save. Orbax hands on most of it as text.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO, errno.ENOENT)


@dataclass(frozen=True)
class Checkpoint:
    """What was saved at a step."""

    step: int
    state: Any
    iterator_state: Any
    metadata: dict[str, Any]


class Checkpointer:
    """Saves to one folder and keeps the newest `keep` steps. One process at a time may hold the folder."""

    def __init__(self, directory: epath.PathLike, keep: int = 2) -> None:
        self.directory = storage.absolute(storage.to_path(directory))
        self._keep = keep
        self._saving: int | None = None
        self._manager: ocp.CheckpointManager | None = None
        self._links = contextlib.ExitStack()

    def restore(
        self, like: Any, expected: Mapping[str, Any] | None = None, last: int | None = None
    ) -> Checkpoint | None:
        """The newest step that is whole, `last` at the most, or None where nothing was saved. See `read`.

        Damaged steps that are newer, and those beyond the `last` step of the run, are moved to `damaged/` (in a bucket:
        `checkpoints_damaged/`), so that training can write them again.
        """
        if not _steps(self.directory):
            return None
        checkpoint = read(self.directory, like, expected, last)
        damaged = self.directory / DAMAGED
        if storage.is_remote(damaged):  # there Orbax clears away what is among the steps and has no mark as one
            damaged = self.directory.with_name(f"{self.directory.name}_{DAMAGED}")
        for step in _steps(self.directory):
            if step > checkpoint.step:
                target = damaged / str(step)
                target.rmtree(missing_ok=True)
                storage.move(self.directory / str(step), target)
        return checkpoint

    def save(
        self, step: int, state: Any, iterator_state: Any = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Start to save; the state may be donated or changed as soon as this returns.

        A step that is there already stays as it is. Waits for the save before, and raises `UserError` if
        that one failed for want of space or rights.
        """
        leaves = _leaves(state)
        about = {
            "iterator_state": iterator_state,
            "metadata": dict(metadata or {}),
            "leaves": {name: _describe(leaf) for name, leaf in leaves.items()},
            "step": step,
        }
        self.wait()
        if step in _steps(self.directory):
            return
        self._saving = step
        arrays = {
            name: leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
            for name, leaf in leaves.items()
            if np.size(leaf)  # Orbax refuses empty arrays; their shape says all
        }
        self._guard(
            lambda: self._opened().save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about)),
                force=True,
            )
        )

    def wait(self) -> None:
        """Return when the last save is on disk; raise `UserError` if it could not be."""
        if self._manager is not None:
            self._guard(self._manager.wait_until_finished)

    def close(self) -> None:
        """Wait for the last save and end the threads behind it."""
        manager = self._manager
        if manager is None:
            return
        try:
            self.wait()
        except BaseException:
            with contextlib.suppress(Exception):  # Orbax raises the same error again
                manager.close()
            raise
        else:
            self._guard(manager.close)
        finally:
            self._manager = None
            self._links.close()

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _opened(self) -> ocp.CheckpointManager:
        """Orbax's manager; making it clears away steps that a killed process left half written."""
        if self._manager is None:
            _drop_late_writes()
            if not storage.is_remote(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
            self._manager = ocp.CheckpointManager(
                self._links.enter_context(_plainly_named(self.directory)),
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self._keep,
                    cleanup_tmp_directories=True,
                    async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                ),
            )
        return self._manager

    def _seal(self) -> None:
        """Write the sums into the finished step, just before it is renamed into its place or marked as whole."""
        if jax.process_index() == 0:
            beside = f"{self._saving}.orbax-checkpoint-tmp"
            folders = [name for name in storage.entries(self.directory)[0] if name.startswith(beside)]
            (step,) = folders or [str(self._saving)]  # in a bucket, Orbax writes to the place itself
            checksums.write(self.directory / step)

    def _guard(self, action: Callable[[], Any]) -> None:
        """Run an action of Orbax; say what is to be done if the disk is full or not ours."""
        try:
            action()
        except Exception as error:
            reason = _refusal(error)
            if reason is None:
                raise
            steps = _steps(self.directory)
            kept = f"The checkpoint of step {steps[0]} is whole" if steps else "None was saved before"
            raise UserError(
                f"cannot save step {self._saving} to {self.directory}: {reason}. {kept}: mend the "
                "disk or free space, then start again with this --workdir to go on from there."
            ) from error


def read(
    directory: epath.PathLike, like: Any, expected: Mapping[str, Any] | None = None, last: int | None = None
) -> Checkpoint:
    """The newest step of a folder that is whole, without changing anything there; names damaged ones on the screen.

    Args:
        directory: the folder of the steps.
        like: a tree of arrays or `jax.ShapeDtypeStruct` with the names, shapes and dtypes of the state;
            its shardings, where it has them, say where the arrays go; NumPy's arrays stay NumPy's.
        expected: metadata that must be equal where it was kept, such as the backbone's fingerprint.
        last: of the run's steps; what stands beyond is none of it.

    Raises:
        UserError: there is no step, none is whole, or the newest was made with something else.
    """
    directory = storage.absolute(storage.to_path(directory))
    steps = _steps(directory)
    if not steps:
        raise UserError(f"no checkpoint in {directory}: expected a folder that a training run has made.")
    damages = []
    for step in steps:
        damage = _damage(directory / str(step), last)
        if damage is None:
            return _load(directory / str(step), like, expected or {})
        damages.append(f"{directory / str(step)} ({damage})")
        if step != steps[-1]:
            print(f"checkpoint {damages[-1]} is damaged: trying the one before.")
    raise UserError(
        f"every checkpoint is damaged: {', '.join(damages)}. Bring one back from a backup, or remove "
        f"{directory} to start again."
    )


def _damage(step: epath.Path, last: int | None) -> str | None:
    """What is wrong with a saved step, if anything."""
    if last is not None and int(step.name) > last:
        return f"the run ends with step {last}"
    damage = checksums.damage(step)
    if damage is not None:
        return damage
    saved = _about(step).get("step", int(step.name))  # earlier versions did not note it
    return None if saved == int(step.name) else f"it holds step {saved}"


def _about(step: epath.Path) -> dict[str, Any]:
    """What `save` noted of a step beside its arrays."""
    try:
        return dict(json_files.parse((step / "about" / "metadata").read_bytes()))
    except storage.failures(ValueError, TypeError) as error:
        raise UserError(f"checkpoint {step} does not say what it holds ({error}): its sums were changed.") from error


def _load(step: epath.Path, like: Any, expected: Mapping[str, Any]) -> Checkpoint:
    about = _about(step)
    _check_metadata(step, about["metadata"], expected)
    wanted = _leaves(like)
    _check_leaves(step, about["leaves"], {name: _describe(leaf) for name, leaf in wanted.items()})
    target = {name: _target(leaf) for name, leaf in wanted.items()}
    with ocp.StandardCheckpointer() as reader, _plainly_named(step) as place:
        found = reader.restore(place / "state", {name: leaf for name, leaf in target.items() if leaf.size})
    leaves = [
        found[name] if leaf.size else jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
        for name, leaf in target.items()
    ]
    state = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Checkpoint(int(step.name), state, about["iterator_state"], about["metadata"])


@contextlib.contextmanager
def _plainly_named(folder: epath.Path) -> Iterator[epath.Path]:
    """The folder; where its path holds one of `MARKS`, a link to it that holds none."""
    if storage.is_remote(folder) or not MARKS & set(os.fspath(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="dear_jax_") as parent:
        link = Path(parent, "folder")
        link.symlink_to(os.fspath(folder), target_is_directory=True)
        yield epath.Path(link)


def _check_metadata(step: epath.Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    wrong = [
        f"{key} is {found[key]!r}, expected {value!r}"
        for key, value in expected.items()
        if key in found and found[key] != value  # earlier versions kept fewer
    ]
    if wrong:
        raise UserError(f"checkpoint {step} was made with something else: {'; '.join(wrong)}.")


def _check_leaves(step: epath.Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    wrong = [
        f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]
    if wrong:
        shown = "; ".join(wrong[:12]) + (f"; and {len(wrong) - 12} more" if len(wrong) > 12 else "")
        raise UserError(f"checkpoint {step} is for another architecture or another config: {shown}.")


def _leaves(tree: Any) -> dict[str, Any]:
    """The tree's leaves by name, such as `adapter/vision_tokens`."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in flat}


def _describe(leaf: Any) -> str:
    """Dtype and shape of an array, e.g. `float32[3,1,64]`."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def _target(leaf: Any) -> Any:
    """What Orbax is to make: a NumPy array for one of NumPy's, else a JAX array where the leaf is."""
    if isinstance(leaf, np.ndarray) and leaf.size:
        return leaf
    sharding = getattr(leaf, "sharding", None) or SingleDeviceSharding(jax.devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _steps(directory: epath.Path) -> list[int]:
    """Steps that were saved to the end, newest first."""
    try:
        names = [name for name in storage.entries(directory)[0] if re.fullmatch("0|[1-9][0-9]{0,17}", name)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    if storage.is_remote(directory):
        names = [name for name in names if (directory / name / checksums.COMMITTED).exists()]
    return sorted(map(int, names), reverse=True)


@functools.cache
def _drop_late_writes() -> None:
    """Print nothing of writes that end after another one of the same save has failed: that one is reported.

    Orbax writes many arrays at once in an event loop, which the first failure closes; TensorStore's threads then have
    nobody to tell, and Python would print a traceback for each.
    """
    previous = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            previous(unraisable)

    sys.unraisablehook = hook


def _refusal(error: BaseException) -> str | None:
    """What the operating system or the bucket said, in an error or in those that led to it; None for a bug."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in REFUSALS:
            return os.strerror(cause.errno)
        if storage.BUCKET in str(cause) or (isinstance(cause, storage.failures()) and not isinstance(cause, OSError)):
            return storage.reason(cause)
        for number in REFUSALS:
            if os.strerror(number) in str(cause):
                return os.strerror(number)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
