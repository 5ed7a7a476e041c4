"""What a data set is to the rest of the project: labels at hand, and images that come by index.

In: whatever a data set is made of (a procedure, a folder, TFDS records) behind one function
`load(index) -> uint8 [H, W, 3]`. Out: `ImageSplit` and `ImageDataset`, which know how to keep some
of their images or classes without loading any. Nothing that uses them knows where images come from.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dear_jax.errors import UserError

Load = Callable[[int], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSplit:
    """N labelled images with random access.

    Attributes:
        labels: int64 [N], each an index into the class names of the data set.
        load: index in [0, N) -> RGB image, uint8 [H, W, 3] of any size; the same image at every
            call, safe to call from several threads, picklable for the pipeline's worker processes.
        attributes: what else is known of the images, if anything: attribute name -> values, str [N].
        grouped_by: the attribute that, crossed with the class, makes the groups of worst-group accuracy; empty: none.
    """

    labels: np.ndarray
    load: Load
    attributes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    grouped_by: str = ""

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or (labels.size and not np.issubdtype(labels.dtype, np.integer)):
            raise ValueError(f"labels: expected integers [N], got {labels.dtype} {labels.shape}")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        for name, values in self.attributes.items():
            if values.shape != labels.shape:
                raise ValueError(f"attributes[{name!r}]: expected [{len(labels)}], got {values.shape}")
        if self.grouped_by and self.grouped_by not in self.attributes:
            raise ValueError(f"grouped_by: expected one of {sorted(self.attributes)}, got {self.grouped_by!r}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """How to call the images: as their loader does, if it has names for them, else by their places."""
        names = getattr(self.load, "names", None)
        return tuple(names) if names else tuple(map(_name, range(len(self))))

    @property
    def files(self) -> tuple[str, ...]:
        """Where the images are on a disk; an empty text for one that is no file there."""
        return _files(self.load, range(len(self)))

    def names_sha256(self) -> str:
        """Equal where images are called the same, in the same order; also of names that are no UTF-8."""
        return hashlib.sha256("\n".join(self.names).encode(errors="surrogateescape")).hexdigest()

    @property
    def groups(self) -> np.ndarray | None:
        """The value of each image by which classes are cut into groups, str [N]; None: there are no groups."""
        return self.attributes[self.grouped_by] if self.grouped_by else None

    def problem(self, index: int) -> str:
        """Why an image cannot be read; empty if it can."""
        try:
            self.load(index)
        except UserError as error:
            return str(error)
        return ""

    def subset(self, indices: Sequence[int] | np.ndarray) -> "ImageSplit":
        """The images at `indices`, in that order, labels unchanged."""
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        if chosen.size and (chosen.min() < 0 or chosen.max() >= len(self)):
            found = f"{chosen.min()} to {chosen.max()}"
            raise ValueError(f"indices: expected 0 to {len(self) - 1}, got {found}")
        return self._pick(self.labels[chosen], chosen)

    def keep_classes(self, labels: Sequence[int]) -> "ImageSplit":
        """The images of the classes `labels`, relabelled: `labels[i]` becomes `i`."""
        position = {int(label): index for index, label in enumerate(labels)}
        if len(position) != len(labels):
            raise ValueError(f"labels: expected no label twice, got {list(labels)}")
        chosen = np.flatnonzero(np.isin(self.labels, list(position)))
        relabelled = [position[int(label)] for label in self.labels[chosen]]
        return self._pick(np.array(relabelled, np.int64), chosen)

    def __add__(self, other: "ImageSplit") -> "ImageSplit":
        """The images of this split, then those of another of the same classes; of the attributes, what both know."""
        shared = self.attributes.keys() & other.attributes.keys()
        attributes = {name: np.concatenate([self.attributes[name], other.attributes[name]]) for name in shared}
        load = _Joined(self.load, other.load, len(self), (*self.names, *other.names))
        grouped_by = self.grouped_by if self.grouped_by == other.grouped_by else ""
        return ImageSplit(np.concatenate([self.labels, other.labels]), load, attributes, grouped_by)

    def _pick(self, labels: np.ndarray, chosen: np.ndarray) -> "ImageSplit":
        attributes = {name: values[chosen] for name, values in self.attributes.items()}
        return ImageSplit(labels, _Picked(self.load, chosen), attributes, self.grouped_by)

    def cached(self, limit_bytes: int) -> "ImageSplit":
        """The same split, holding loaded images in memory until they fill `limit_bytes`.

        Loading is deterministic, so this changes no result. Each worker process fills a cache of
        its own.
        """
        return dataclasses.replace(self, load=_Cached(self.load, limit_bytes))


@dataclasses.dataclass(frozen=True, eq=False)
class ImageDataset:
    """A classification data set: three splits over one list of class names.

    Attributes:
        name: its row in `datasets.DATASETS`.
        class_names: class_names[label], as published ('_' where a blank is meant).
        template: the prompt with one {} for the class name.
        train: where few-shot examples are drawn from.
        val: where few-shot validation examples are drawn from; may be empty.
        test: what accuracies are measured on.
        distinct_names: whether two classes of the same name are a mistake (ImageNet has such pairs).
        notes: where images, classes and splits come from, and whether results compare with published
            ones; goes into results.json as it is.
        missing: files that the splits list and that are not there, as paths.
        drawn_splits: content of `splits.json` where the splits were drawn for this run, else empty.
    """

    name: str
    class_names: tuple[str, ...]
    template: str
    train: ImageSplit
    val: ImageSplit
    test: ImageSplit
    distinct_names: bool = True
    notes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    missing: tuple[str, ...] = ()
    drawn_splits: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for split_name in ("train", "val", "test"):
            labels = getattr(self, split_name).labels
            if labels.size and (labels.min() < 0 or labels.max() >= len(self.class_names)):
                raise ValueError(
                    f"{self.name} {split_name}: expected labels 0 to {len(self.class_names) - 1}, "
                    f"got {labels.min()} to {labels.max()}"
                )

    def counts(self) -> dict[str, list[int]]:
        """Images of each class, per split: {"train": [of class 0, of class 1, ...], "val": ..., "test": ...}."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {
            name: np.bincount(split.labels, minlength=len(self.class_names)).tolist() for name, split in splits.items()
        }

    def keep_classes(self, labels: Sequence[int]) -> "ImageDataset":
        """The data set of the classes `labels` alone, relabelled: `labels[i]` becomes `i`."""
        return dataclasses.replace(
            self,
            class_names=tuple(self.class_names[label] for label in labels),
            train=self.train.keep_classes(labels),
            val=self.val.keep_classes(labels),
            test=self.test.keep_classes(labels),
        )


def _name(index: int) -> str:
    return f"image {index}"


def _files(load: Load, indices: Iterable[int]) -> tuple[str, ...]:
    """Where the images of a loader are, as far as it knows."""
    files = getattr(load, "files", None)
    return tuple(files[index] if files else "" for index in indices)


@dataclasses.dataclass(frozen=True, eq=False)
class _Picked:
    """`load` of some images of a larger split; a class, not a closure, so that it pickles."""

    load: Load
    indices: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        """Those that the images have in the larger split."""
        names = getattr(self.load, "names", None)
        return tuple(names[index] if names else _name(index) for index in self.indices)

    @property
    def files(self) -> tuple[str, ...]:
        """Where they are on a disk."""
        return _files(self.load, self.indices)

    def __call__(self, index: int) -> np.ndarray:
        return self.load(int(self.indices[index]))


@dataclasses.dataclass(frozen=True, eq=False)
class _Joined:
    """`load` of the images of two splits, the first `count` from the first."""

    first: Load
    second: Load
    count: int
    names: tuple[str, ...]

    def __call__(self, index: int) -> np.ndarray:
        return self.first(index) if index < self.count else self.second(index - self.count)


class _Cached:
    """`load` that remembers images, the first ones first, up to a number of bytes."""

    def __init__(self, load: Load, limit_bytes: int):
        self._load = load
        self._limit_bytes = limit_bytes
        self._forget()

    def _forget(self) -> None:
        self._images: dict[int, np.ndarray] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, index: int) -> np.ndarray:
        image = self._images.get(index)
        if image is None:
            image = self._load(index)
            with self._lock:
                if index not in self._images and self._bytes + image.nbytes <= self._limit_bytes:
                    image.setflags(write=False)
                    self._images[index] = image
                    self._bytes += image.nbytes
        return image

    def __getstate__(self) -> tuple[Load, int]:
        return self._load, self._limit_bytes  # the lock and the images stay in their process

    def __setstate__(self, state: tuple[Load, int]) -> None:
        self._load, self._limit_bytes = state
        self._forget()
