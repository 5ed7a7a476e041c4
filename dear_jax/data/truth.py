"""The truth that a tree of class folders tells: what its images show, by the folders that they lie in."""

import os
from collections.abc import Sequence
from pathlib import Path

from dear_jax.data.sources.folder import read_names
from dear_jax.files import storage


def of_folders(names: Sequence[str], top: Path, class_names: Sequence[str]) -> list[str]:
    """The class of each image; empty where no folder is called like one, or renamed so by classnames.txt.

    Args:
        names: the images' paths.
        top: the folder that they lie below; of several folders called like classes the first below it counts.
        class_names: the classes; capitals count no more than in a prompt, and `_` is a blank.
    """
    classes = {_plain(name): name for name in class_names}
    renamed = read_names(storage.to_path(top))

    def of(name: str) -> str:
        folders = os.path.relpath(name, top).split(os.sep)[:-1]
        return next(filter(None, (classes.get(_plain(renamed.get(one, one))) for one in folders)), "")

    return list(map(of, names))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()
