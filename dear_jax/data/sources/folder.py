"""Source `folder`: images of one's own, one folder per class, optionally below train/, val/ and test/.

In: the folder, a seed, and the splits that an earlier start of the same run drew, if it did. Out: the data set;
where its splits were drawn, `drawn_splits` holds them for the run to keep.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from dear_jax.data import listing
from dear_jax.data.class_folders import check_filled, class_folders, images_below
from dear_jax.data.image_dataset import ImageDataset
from dear_jax.data.listing import SPLITS, Entry, Listing
from dear_jax.data.sources.imagenet import NAMES_FILE, read_lines
from dear_jax.data.splits import random_splits
from dear_jax.errors import UserError
from dear_jax.files import storage


def load(
    root: str,
    *,
    template: str,
    split_seed: int = 0,
    earlier: Mapping[str, Any] | None = None,
    exif: bool = True,
) -> ImageDataset:
    """The images below `root`; class names are the folders' names, or what classnames.txt makes of them.

    Args:
        root: has class folders; or train/, val/, test/, some of them, with class folders in each.
        template: prompt with one {}.
        split_seed: decides which images of a class are for training, validation and testing.
        earlier: the `drawn_splits` of an earlier start, taken again whatever images came since.
        exif: whether to turn images as their EXIF tag says.
    """
    folder = storage.to_path(root)
    if not root or not folder.is_dir():
        raise UserError(f"config.data.root: expected a folder with one folder of images per class, found {root!r}.")
    parts = _parts(folder)
    drawn = parts in ([""], ["train"])
    if earlier:
        found = listing.check(earlier, "splits.json of the workdir")
    elif drawn:
        found = _draw(_list_classes(folder, parts[0]), split_seed)
    else:
        found = _given(folder, parts)
    if not earlier:
        found = _rename(found, _read_names(folder))
    splits = "splits.json in the workdir, drawn by config.data.split_seed" if drawn else f"folders {', '.join(parts)}"
    dataset = listing.to_dataset(
        found,
        folder,
        name=folder.name if storage.is_remote(folder) else Path(folder).resolve().name,
        template=template,
        notes={"source": "folder", "splits": splits},
        exif=exif,
    )
    return dataclasses.replace(dataset, drawn_splits=found if drawn else {})


def _parts(folder: epath.Path) -> list[str]:
    """Those of train, val and test that hold the class folders; [""] where these lie right here.

    A folder called `train` beside others is a class: trains.
    """
    folders = class_folders(folder)
    if not folders:
        raise UserError(f"config.data.root: expected one folder per class in {folder}, found no folder.")
    if set(folders) <= set(SPLITS) and all(class_folders(folder / part) for part in folders):
        return [split for split in SPLITS if split in folders]
    return [""]


def _list_classes(folder: epath.Path, part: str) -> dict[str, list[str]]:
    """Class folder -> its images anywhere below, as sorted paths relative to `folder`."""
    names = class_folders(folder / part)
    found = storage.in_threads(lambda name: images_below(folder, folder / part / name), names)
    images = dict(zip(names, found, strict=True))
    check_filled(images, folder / part)
    return images


def _draw(images: Mapping[str, Sequence[str]], split_seed: int) -> Listing:
    entries = _entries(images, list(images))
    splits = random_splits([label for _, label, _ in entries], split_seed, list(images))
    return {split: [entries[index] for index in splits[split]] for split in SPLITS}


def _given(folder: epath.Path, parts: Sequence[str]) -> Listing:
    """train/, val/ and test/ as they are; without test/, val/ is for testing, as ImageNet's is."""
    images = {part: _list_classes(folder, part) for part in parts}
    classes = sorted({name for found in images.values() for name in found})
    found: Listing = {split: [] for split in SPLITS}
    for part in parts:
        split = "test" if part == "val" and "test" not in parts else part
        found[split] = _entries(images[part], classes)
    return found


def _entries(images: Mapping[str, Sequence[str]], classes: Sequence[str]) -> list[Entry]:
    label_of = {name: label for label, name in enumerate(classes)}
    return [(path, label_of[name], name) for name, paths in images.items() for path in paths]


def _read_names(folder: epath.Path) -> dict[str, str]:
    """classnames.txt: a line per class to rename, its folder, a tab or else a blank, its name."""
    path = folder / NAMES_FILE
    if not path.is_file():
        return {}
    names = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        class_folder, _, name = line.strip().partition("\t" if "\t" in line else " ")
        if not name.strip():
            raise UserError(f"{path}, line {number}: expected a class folder and the name to use, found {line!r}.")
        names[class_folder.strip()] = name.strip()
    return names


def _rename(found: Listing, names: Mapping[str, str]) -> Listing:
    folders = {name for entries in found.values() for _, _, name in entries}
    unknown = sorted(names.keys() - folders)
    if unknown:
        raise UserError(
            f"{NAMES_FILE} names folders that are not there: {', '.join(unknown[:10])}. A line is the class folder, a "
            "tab (or a blank, where the folder's name has none), and the name for the prompt."
        )
    return {
        split: [(path, label, names.get(name, name)) for path, label, name in entries]
        for split, entries in found.items()
    }
