"""Leaving unreadable images out: which they are, and what takes their place.

Every image that a run will use is read once beforehand; that costs one more decoding and makes the rest of the
run independent of it. A bad test image is not counted. A bad training image is replaced by the next one of its
class that was not drawn, so that a class keeps its shots.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError
from dear_jax.files import progress_bar

THREADS = min(16, os.cpu_count() or 1)


def describe_classes(labels: Sequence[int], class_names: Sequence[str]) -> str:
    """The names of classes, in a message."""
    names = ", ".join(repr(class_names[label]) for label in labels[:10]) + (", ..." if len(labels) > 10 else "")
    return f"class {names}" if len(labels) == 1 else f"the {len(labels)} classes {names}"


class Checked:
    """A split and what is known of its images.

    Attributes:
        split: the images.
        bad: index -> why it cannot be read, for those found so far.
    """

    def __init__(self, split: ImageSplit):
        self.split = split
        self.bad: dict[int, str] = {}
        self._seen: set[int] = set()

    def readable(self) -> ImageSplit:
        """The images that can be read, in their order."""
        self._check(range(len(self.split)))
        return self.split.subset([index for index in range(len(self.split)) if index not in self.bad])

    def redraw(self, drawn: Sequence[int] | np.ndarray, class_names: Sequence[str]) -> np.ndarray:
        """The same draw, each bad image replaced by the next undrawn readable one of its class.

        A class that has no other gives fewer; one that has none left is a `UserError`.
        """
        drawn = [int(index) for index in drawn]
        self._check(drawn)
        taken = set(drawn)
        kept = []
        for index in drawn:
            if index in self.bad:
                substitute = self._next(int(self.split.labels[index]), taken)
                kept += substitute
                taken.update(substitute)
            else:
                kept.append(index)
        lost = set(self.split.labels[drawn].tolist()) - set(self.split.labels[kept].tolist())
        if lost:
            raise UserError(
                f"No training image of {describe_classes(sorted(lost), class_names)} can be read: "
                f"{'; '.join(list(self.bad.values())[:10])}"
            )
        return np.array(kept, np.int64)

    def _next(self, label: int, taken: set[int]) -> list[int]:
        for index in np.flatnonzero(self.split.labels == label).tolist():
            if index not in taken:
                self._check([index])
                if index not in self.bad:
                    return [index]
        return []

    def _check(self, indices: Sequence[int]) -> None:
        fresh = [index for index in dict.fromkeys(indices) if index not in self._seen]
        with ThreadPoolExecutor(THREADS) as pool:
            read = progress_bar.bar(
                pool.map(self.split.problem, fresh), total=len(fresh), desc="Reading images", delay=progress_bar.DELAY
            )
            for index, why in zip(fresh, read, strict=True):
                self._seen.add(index)
                if why:
                    self.bad[index] = why
