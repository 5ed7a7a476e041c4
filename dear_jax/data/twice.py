"""The same image in training and in test, by its content: what is measured on it says nothing.

In: two splits of files on a disk. Out: which files of the second are in the first too. Sizes are compared first, then
the last bytes, then whole files, so that few are read. Where the first is no longer at hand, as the images that an
adapter was trained on, its marks stand for it: of each file a hash of its size and its last bytes.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from dear_jax.data.image_dataset import ImageSplit
from dear_jax.files import storage

MOST = 200_000  # files: beyond it, as with all of ImageNet, looking at every size would take minutes
TAIL = 4096  # bytes: unlike its head, the end of an image's file is its own
MARK = 8  # bytes: among a million images two are taken for the same with a probability of 1 in 40 million

Key = Callable[[str], Hashable]


def in_both(train: ImageSplit, test: ImageSplit) -> list[str]:
    """Names of the test images whose files are equal to those of training images; none where images are no files."""
    first, second = _files(train), _files(test)
    if len(first) + len(second) > MOST:
        return []
    mine, theirs = list(first), list(second)
    for key in (os.path.getsize, _tail, _content):
        mine, theirs = _equal(key, mine, theirs)
    return [second[path] for path in theirs]


def marks(splits: Sequence[ImageSplit]) -> UInt8[np.ndarray, "N mark"]:
    """The marks of all images of some splits that are files on a disk, each once and in order."""
    paths = dict.fromkeys(path for split in splits for path in split.files if path)
    found = set(filter(None, storage.in_threads(_mark, list(paths))))
    return np.array([list(mark) for mark in sorted(found)], np.uint8).reshape(-1, MARK)


def marked(split: ImageSplit, known: UInt8[np.ndarray, "N mark"]) -> Bool[np.ndarray, "M"]:
    """Which images of a split are files whose mark is among those."""
    if not len(known):
        return np.zeros(len(split), bool)
    mine = {row.tobytes() for row in known}
    found = storage.in_threads(lambda path: _mark(path) in mine if path else False, split.files)
    return np.array(found, bool)


def _mark(path: str) -> bytes | None:
    """The mark of a file; None where it cannot be read, which is answered elsewhere."""
    tail = _or_none(_tail, path) if os.path.isfile(path) else None  # a pipe might never end
    return None if tail is None else hashlib.sha256(repr(tail).encode()).digest()[:MARK]


def _files(split: ImageSplit) -> dict[str, str]:
    """Path -> name of the images of a split; none of those in a bucket or in records."""
    return {path: name for path, name in zip(split.files, split.names, strict=True) if path}


def _equal(key: Key, first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files of either side whose key a file of the other has."""
    paths = list(dict.fromkeys((*first, *second)))
    keys = dict(zip(paths, storage.in_threads(lambda path: _or_none(key, path), paths), strict=True))
    sides = defaultdict[Hashable, set[int]](set)
    for side, of in enumerate((first, second)):
        for path in of:
            sides[keys[path]].add(side)
    kept = [[path for path in of if keys[path] is not None and len(sides[keys[path]]) == 2] for of in (first, second)]
    return kept[0], kept[1]


def _or_none(key: Key, path: str) -> Hashable:
    """A file's key, or None where it is absent or cannot be read, which is answered elsewhere."""
    try:
        return key(path)
    except OSError:
        return None


def _tail(path: str) -> Hashable:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL))
        return size, file.read(TAIL)


def _content(path: str) -> Hashable:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
