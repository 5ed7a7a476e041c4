"""The same image in training and in test, by its content: what is measured on it says nothing.

In: two splits of files on a disk. Out: which files of the second are in the first too. Sizes are compared first, then
the last bytes, then whole files, so that few are read.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.images import FileLoader
from dear_jax.files import storage

MOST = 200_000  # files: beyond it, as with all of ImageNet, looking at every size would take minutes
TAIL = 4096  # bytes: unlike its head, the end of an image's file is its own

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


def _files(split: ImageSplit) -> dict[str, str]:
    """Path -> name of the images of a split; none of those in a bucket or in records."""
    load = split.load
    if not isinstance(load, FileLoader) or storage.is_remote(load.folder):
        return {}
    return {os.path.join(load.folder, name): name for name in load.paths}


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
