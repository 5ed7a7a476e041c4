"""Source `coop`: the folders that CoOp, CoCoOp, MaPLe, PromptSRC and MMRL share, one per data set below data.root.

In: a row of the table and the root. Out: the data set with its published, fixed splits. Where the older tools
would make a random split because a split file is missing, this one says which file is needed.
"""

import fnmatch
import hashlib
from collections.abc import Mapping
from typing import Any

from etils import epath

from dear_jax.data import listing
from dear_jax.data.datasets import DATASETS, PUBLISHED_AT, DatasetRow, ways
from dear_jax.data.image_dataset import ImageDataset
from dear_jax.data.listing import SPLITS, Listing
from dear_jax.data.sources import imagenet
from dear_jax.errors import UserError
from dear_jax.files import storage

VARIANTS = "variants.txt"  # FGVC Aircraft's classes, in the order of their labels


def load(name: str, row: DatasetRow, root: str, exif: bool = True) -> ImageDataset:
    """The data set of a row of the table, with its images below `root`."""
    folder = find_folder(name, row, storage.to_path(root))
    notes: dict[str, Any] = {"source": "coop"}
    if row.layout == "split file":
        path = split_file(folder, row)
        found = listing.load_json(path)
        notes |= {"splits": row.split_file, "splits_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    elif row.layout == "variants":
        found = _read_variants(folder)
        notes |= {"splits": "images_variant_{train,val,test}.txt"}
    else:
        found = imagenet.list_folders(row, folder, class_name_folders(row, folder, root))
        notes |= {"splits": f"folders {' and '.join(row.image_folder)}"}
    check_classes(found, row, name, folder)
    image_folder = folder / row.image_folder[0] if row.layout in ("split file", "variants") else folder
    return listing.to_dataset(found, image_folder, name=name, template=row.template, notes=notes, exif=exif)


def find_folder(name: str, row: DatasetRow, root: epath.Path) -> epath.Path:
    """The folder of the data set, or a `UserError` that says what lies at `root` instead."""
    if not row.folder:
        raise UserError(f"config.data.source: {name} is no data set of files; leave config.data.source at 'auto'.")
    if (root / row.folder).is_dir():
        return root / row.folder
    expected = f"config.data.root: expected the folder {row.folder!r} of {name} in {root}"
    if not root.is_dir():
        raise UserError(
            f"{expected}, and that does not exist. Give the folder that holds {row.folder}/. {ways(row)}"
        )
    if root.name == row.folder or (row.split_file and (root / row.split_file).exists()):
        above = storage.absolute(root).parent
        raise UserError(f"{expected}. It looks like that folder itself: give the one above, {above}.")
    other = _owner(root)
    if other:
        raise UserError(
            f"{expected}. It is the folder of another data set, {other}: give the one that holds {row.folder}/."
        )
    if row.tfds and (root / row.tfds.split("/")[0].split(":")[0]).is_dir():
        raise UserError(f"{expected}. It looks like a data_dir of TFDS: add --config.data.source=tfds.")
    there = [known for known, other_row in DATASETS.items() if other_row.folder and (root / other_row.folder).is_dir()]
    held = ", ".join(there) or "no known data set"
    raise UserError(f"{expected}. It holds {held}. {ways(row)}")


def _owner(folder: epath.Path) -> str:
    """The data set whose split file, or own folder name, this folder has."""
    for known, row in DATASETS.items():
        if row.folder and (folder.name == row.folder or (row.split_file and (folder / row.split_file).exists())):
            return known
    return ""


def split_file(folder: epath.Path, row: DatasetRow) -> epath.Path:
    """The path of CoOp's split file in a folder, or a `UserError` that says where it comes from."""
    path = folder / row.split_file
    if not path.is_file():
        files = storage.entries(folder)[1] if folder.is_dir() else []
        others = fnmatch.filter(files, "split_zhou_*.json")
        found = f" (there is {', '.join(others)}, of another data set)" if others else ""
        raise UserError(
            f"The split file {path} is missing{found}. Without it no result compares with a published one, so none is "
            f"drawn at random. CoOp publishes it: follow the link to {row.split_file} in {PUBLISHED_AT}."
        )
    return path


def class_name_folders(row: DatasetRow, folder: epath.Path, root: str) -> tuple[epath.Path, ...]:
    """Where ImageNet's classnames.txt may lie: CoOp has a copy in every variant's folder."""
    return (folder, storage.to_path(root) / DATASETS["imagenet"].folder)


def check_classes(found: Listing, row: DatasetRow, name: str, where: epath.Path) -> None:
    """Refuse another data set's files: the number of classes tells."""
    count = len(listing.class_names(found, str(where)))
    if count != row.classes:
        raise UserError(
            f"{where} lists {count} classes; {name} has {row.classes}. It may be another data set's, or cut short: "
            f"fetch it as {PUBLISHED_AT} says. Classes of your own are for --config.data.source=folder."
        )


def _read_variants(folder: epath.Path) -> Listing:
    """FGVC Aircraft's own lists: lines of an image's number and the name of its variant."""
    labels = {name: label for label, name in enumerate(_lines(folder / VARIANTS))}
    found: Listing = {}
    for split in SPLITS:
        path = folder / f"images_variant_{split}.txt"
        found[split] = [(f"{number}.jpg", _label(labels, variant, path), variant) for number, variant in _pairs(path)]
    return found


def _pairs(path: epath.Path) -> list[tuple[str, str]]:
    return [(number, variant) for number, _, variant in (line.partition(" ") for line in _lines(path))]


def _label(labels: Mapping[str, int], variant: str, path: epath.Path) -> int:
    if variant not in labels:
        raise UserError(f"{path} names the variant {variant!r}, which {VARIANTS} beside it does not.")
    return labels[variant]


def _lines(path: epath.Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except storage.failures(UnicodeDecodeError) as error:
        raise UserError(
            f"The list {path} cannot be read ({error}). It is part of FGVC Aircraft's archive; {PUBLISHED_AT} tells "
            "which of its folders goes where."
        ) from error
