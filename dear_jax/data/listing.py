"""Lists of labelled files, which most data sets are: {"train": [[path, label, class name], ...], "val", "test"}.

That is the content of CoOp's `split_zhou_*.json` and of the `splits.json` that a run leaves for images of the
user's own. In: such a list and the folder that its paths are relative to. Out: an `ImageDataset`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.images import FileLoader
from dear_jax.errors import UserError
from dear_jax.files import json_files, storage

SPLITS = ("train", "val", "test")
Entry = tuple[str, int, str]  # path, label, class name
Listing = dict[str, list[Entry]]


def load_json(path: epath.Path) -> Listing:
    """The list in a split file.

    Raises:
        UserError: it cannot be read, is not such a list, or gives a label two names.
    """
    try:
        content = json_files.parse(path.read_text())
    except storage.failures() as error:
        raise UserError(f"The split file {path} cannot be read: {storage.reason(error)}.") from error
    except ValueError as error:
        raise UserError(f"The split file {path} is not JSON ({error}); fetch it again.") from error
    return check(content, str(path))


def check(content: Any, name: str) -> Listing:
    """The content of a split file, with its form checked."""
    form = '{"train": [[path, label, class name], ...], "val": [...], "test": [...]}'
    if not isinstance(content, Mapping) or not all(isinstance(content.get(split), list) for split in SPLITS):
        raise UserError(f"{name}: expected {form}, found {str(content)[:80]!r}.")
    listing: Listing = {}
    for split in SPLITS:
        for entry in content[split]:
            if not _is_entry(entry):
                raise UserError(f"{name}, {split}: expected entries [path, label, class name], found {entry!r}.")
        listing[split] = [(path, int(label), class_name) for path, label, class_name in content[split]]
    class_names(listing, name)
    return listing


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, list | tuple) or len(entry) != 3:
        return False
    path, label, class_name = entry
    return isinstance(path, str) and isinstance(class_name, str) and str(label).isdecimal()


def class_names(listing: Listing, name: str) -> tuple[str, ...]:
    """class_names[label]; every label from 0 on has exactly one."""
    found: dict[int, str] = {}
    for entries in listing.values():
        for path, label, class_name in entries:
            if found.setdefault(label, class_name) != class_name:
                raise UserError(f"{name}: label {label} is called {found[label]!r} and, at {path}, {class_name!r}.")
    absent = sorted(set(range(max(found, default=-1) + 1)) - found.keys())
    if absent or not found:
        what = f"no image has the label {absent[0]}" if absent else "it lists no image"
        raise UserError(f"{name}: expected labels from 0 on without a gap; {what}.")
    return tuple(found[label] for label in sorted(found))


def to_dataset(
    listing: Listing,
    folder: epath.Path,
    *,
    name: str,
    template: str,
    notes: Mapping[str, Any],
    exif: bool = True,
) -> ImageDataset:
    """The data set of a list whose paths are relative to `folder`; images are looked for, not read."""
    splits = {
        split: ImageSplit(
            np.array([label for _, label, _ in entries], np.int64),
            FileLoader(folder, tuple(path for path, _, _ in entries), exif),
        )
        for split, entries in listing.items()
    }
    return ImageDataset(
        name=name,
        class_names=class_names(listing, name),
        template=template,
        notes=notes,
        missing=missing(listing, folder),
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
    )


def missing(listing: Listing, folder: epath.Path) -> tuple[str, ...]:
    """The listed files that are not below `folder`; one look per folder, not per file."""
    paths = dict.fromkeys(path for entries in listing.values() for path, _, _ in entries)
    parents = list(dict.fromkeys(path.rpartition("/")[0] for path in paths))
    found = storage.in_threads(lambda parent: _files(folder / parent), parents)
    there = dict(zip(parents, found, strict=True))
    absent = [path for path in paths if path.rpartition("/")[2] not in there[path.rpartition("/")[0]]]
    return tuple(str(folder / path) for path in absent)


def _files(folder: epath.Path) -> set[str]:
    try:
        folders, files = storage.entries(folder)
        return {*folders, *files}
    except storage.failures():
        return set()


def describe_missing(missing_files: Sequence[str], source: str) -> str:
    """What to say of a data set with files missing: how many, and the first ten."""
    first = ", ".join(missing_files[:10])
    more = ", ..." if len(missing_files) > 10 else ""
    return (
        f"{len(missing_files)} of the images that {source} lists are not there: {first}{more}. Put them there, or "
        "leave absent and unreadable images out by --config.data.skip_bad=true."
    )
