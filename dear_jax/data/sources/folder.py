"""Source `folder`: images of one's own, one folder per class, optionally below folders called after splits.

In: the folder, a seed, and the splits that an earlier start of the same run drew, if it did. Out: the data set;
where its splits were drawn, `drawn_splits` holds them for the run to keep.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from dear_jax.data import listing
from dear_jax.data.class_folders import Found, check_filled, class_folders, describe_left_out, images_below, some
from dear_jax.data.image_dataset import ImageDataset
from dear_jax.data.images import HEIC, HEIC_HINT
from dear_jax.data.listing import SPLITS, Entry, Listing
from dear_jax.data.sources.imagenet import NAMES_FILE, read_lines
from dear_jax.data.splits import random_splits
from dear_jax.errors import UserError, count
from dear_jax.files import storage

SPLIT_NAMES = {  # lower case
    "train": {"train", "training", "train_set", "trainset", "train_data"},
    "val": {"val", "valid", "validation", "dev", "val_set", "valset", "validation_set", "val_data"},
    "test": {"test", "testing", "test_set", "testset", "test_data"},
}


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
        root: has class folders; or folders called after splits (`SPLIT_NAMES`), with class folders in each.
        template: prompt with one {}.
        split_seed: decides which images of a class are for training, validation and testing.
        earlier: the `drawn_splits` of an earlier start, taken again whatever images came since.
        exif: whether to turn images as their EXIF tag says.
    """
    folder = storage.to_path(root)
    if not root or not folder.is_dir():
        raise UserError(f"config.data.root: expected a folder with one folder of images per class, found {root!r}.")
    parts = _parts(folder)
    drawn = list(parts) in ([""], ["train"])
    below = {} if earlier is not None else {split: _list_classes(folder, name) for split, name in parts.items()}
    lists = {split: {name: of.images for name, of in classes.items()} for split, classes in below.items()}
    if earlier is not None:
        found = listing.check(earlier, "splits.json of the workdir")
    elif drawn:
        found = _draw(lists[next(iter(parts))], split_seed)
    else:
        found = _given(lists)
    if earlier is None:
        found = _rename(found, read_names(folder))
    named = ", ".join(parts.values())
    splits = "splits.json in the workdir, drawn by config.data.split_seed" if drawn else f"folders {named}"
    dataset = listing.to_dataset(
        found,
        folder,
        name=folder.name if storage.is_remote(folder) else Path(folder).resolve().name,
        template=template,
        notes={"source": "folder", "splits": splits} | _describe_rest(folder, parts, below),
        exif=exif,
    )
    return dataclasses.replace(dataset, drawn_splits=found if drawn else {})


def _parts(folder: epath.Path) -> dict[str, str]:
    """Split -> the folder that holds its class folders; {"": ""} where these lie right here.

    Folders called `train` or `test` that hold images are classes like any other where none holds class folders.

    Raises:
        UserError: no folder; splits beside other folders or beside splits without class folders; a split twice.
    """
    folders = class_folders(folder)
    if not folders:
        raise UserError(f"config.data.root: expected one folder per class in {folder}, found no folder.")
    split_of = {name: split for name in folders for split, names in SPLIT_NAMES.items() if name.lower() in names}
    holding = {name: split for name, split in split_of.items() if class_folders(folder / name)}
    parts = {split: name for name, split in holding.items()}
    if set(folders) == set(holding) and len(parts) == len(holding):
        return {split: parts[split] for split in SPLITS if split in parts}
    if len(split_of) < 2 or not holding:
        return {"": ""}
    flat = sorted(set(split_of) - set(holding))
    rest = sorted(set(folders) - set(split_of))
    what = [
        f"{', '.join(names)} {said}"
        for names, said in (
            (sorted(holding), "with class folders"),
            (flat, "without class folders"),
            (rest, "called after no split"),
        )
        if names
    ]
    raise UserError(
        f"config.data.root: {folder} looks like a mixture of splits and classes: {'; '.join(what)}. Give a folder with "
        "one folder per class, or with one folder per split (train, val, test) and class folders in each; move the "
        "others elsewhere. What is not labelled goes to config.images."
    )


def _list_classes(folder: epath.Path, part: str) -> dict[str, Found]:
    """Class folder -> its images anywhere below, as sorted paths relative to `folder`, and what is none."""
    names = class_folders(folder / part)
    found = storage.in_threads(lambda name: images_below(folder, folder / part / name), names)
    classes = dict(zip(names, found, strict=True))
    heic = any(path.lower().endswith(HEIC) for of in classes.values() for path in of.left_out)
    check_filled({name: of.images for name, of in classes.items()}, folder / part, HEIC_HINT if heic else "")
    return classes


def _describe_rest(
    folder: epath.Path, parts: Mapping[str, str], below: Mapping[str, Mapping[str, Found]]
) -> dict[str, str]:
    """What was left out, and which images lie in folders below those of their classes, where there are any."""
    left_out = [path for classes in below.values() for of in classes.values() for path in of.left_out]
    nested = [
        path
        for split, classes in below.items()
        for of in classes.values()
        for path in of.images
        if path.count("/") > (2 if parts[split] else 1)
    ]
    notes = {}
    if left_out:
        notes["files_left_out"] = describe_left_out(left_out)
    if nested:
        what = count(len(nested), "image lies", "images lie")
        where = f"the folder of the class, to which {'it is' if len(nested) == 1 else 'they are'} counted"
        notes["nested"] = f"{what} deeper than in {where}: {some(nested)}."
    for note in notes.values():
        print(f"{folder}: {note}", flush=True)
    return notes


def _draw(images: Mapping[str, Sequence[str]], split_seed: int) -> Listing:
    entries = _entries(images, list(images))
    splits = random_splits([label for _, label, _ in entries], split_seed, list(images))
    return {split: [entries[index] for index in splits[split]] for split in SPLITS}


def _given(images: Mapping[str, Mapping[str, Sequence[str]]]) -> Listing:
    """Train, val and test as they are; without test, val is for testing, as ImageNet's is."""
    classes = sorted({name for found in images.values() for name in found})
    found: Listing = {split: [] for split in SPLITS}
    for part in images:
        split = "test" if part == "val" and "test" not in images else part
        found[split] = _entries(images[part], classes)
    return found


def _entries(images: Mapping[str, Sequence[str]], classes: Sequence[str]) -> list[Entry]:
    label_of = {name: label for label, name in enumerate(classes)}
    return [(path, label_of[name], name) for name, paths in images.items() for path in paths]


def read_names(folder: epath.Path) -> dict[str, str]:
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
