"""Source `tfds`: data sets of tensorflow-datasets, read without TensorFlow; only preparing one needs it.

In: a row of the table and TFDS's data_dir. Out: the data set, by TFDS's own splits or, where it keeps file
names, by CoOp's split files. Records stay encoded until an image is asked for; Pillow decodes it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from dear_jax.data import images, listing
from dear_jax.data.datasets import DATASETS, PUBLISHED_AT, DatasetRow, ways
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.listing import SPLITS, Listing
from dear_jax.data.sources import coop
from dear_jax.data.sources.imagenet import read_names
from dear_jax.data.sources.tfds_names import readable
from dear_jax.data.sources.tfds_records import Records, open_splits, parse
from dear_jax.data.splits import random_splits
from dear_jax.errors import UserError
from dear_jax.files import storage


@dataclasses.dataclass(frozen=True)
class RecordLoader:
    """Index -> image, for a split whose images are records.

    Attributes:
        records: the splits of TFDS that they come from.
        places: int [N, 2], each image's position in `records` and its index there; -1 for one that is absent.
        names: how messages call them.
        exif: whether to turn images as their EXIF tag says.
    """

    records: tuple[Records, ...]
    places: np.ndarray
    names: tuple[str, ...] | None = None
    exif: bool = True

    def __call__(self, index: int) -> np.ndarray:
        """The image, uint8 [H, W, 3]; of a video, its middle frame."""
        part, record = self.places[index].tolist()
        if record < 0:
            name = self.names[index] if self.names else str(index)
            raise UserError(f"TFDS has no record of {name}. {images.SKIP_HINT}")
        source = self.records[part]
        features = parse(source.source[record])
        frames = (features["video"] if "video" in features else features["image"]).bytes_list.value
        return images.decode(frames[len(frames) // 2], f"{source.name}, record {record}", self.exif)


def load(
    name: str,
    row: DatasetRow,
    root: str,
    *,
    splits_folder: str = "",
    split_seed: int = 0,
    exif: bool = True,
) -> ImageDataset:
    """The data set of a row, prepared first if it must be and TensorFlow is there.

    Args:
        name: of the row.
        row: what the table says.
        root: TFDS's data_dir; empty for its default.
        splits_folder: with CoOp's split files, or ImageNet's classnames.txt, there or in CoOp's folders below.
        split_seed: for the one data set that has no test split (EuroSAT).
        exif: whether to turn images as their EXIF tag says.
    """
    if not row.tfds:
        raise UserError(
            f"{name} is not in TFDS. Give the folder that holds {row.folder or 'it'}/ by --config.data.root. "
            f"{ways(row) if row.folder else ''}".strip()
        )
    found: Listing | None = None
    wnid_names: dict[str, str] = {}
    if row.layout in ("wnids", "indices"):
        wnid_names = read_names(_folders(row, splits_folder))
    elif splits_folder:
        found = _read_splits(name, row, splits_folder)
    records = open_splits(row, root)
    if found is not None:
        return _by_files(name, row, records, found, exif)
    return _by_tfds(name, row, records, wnid_names, split_seed, exif)


def _folders(row: DatasetRow, splits_folder: str) -> tuple[epath.Path, ...]:
    if not splits_folder:
        raise UserError(
            "TFDS knows ImageNet's classes by WordNet ids such as n01440764, which say nothing to a text encoder: put "
            f"CoOp's classnames.txt (see {PUBLISHED_AT}) into a folder and give that by --config.data.splits; or "
            "give CoOp's folders by --config.data.root and --config.data.source=coop."
        )
    folder = storage.to_path(splits_folder)
    return (folder, folder / row.folder, folder / DATASETS["imagenet"].folder)


def _read_splits(name: str, row: DatasetRow, splits_folder: str) -> Listing:
    if not row.tfds_path:
        known = [other for other, known in DATASETS.items() if known.tfds_path]
        raise UserError(
            f"config.data.splits: TFDS keeps no file names of {name}, so CoOp's splits cannot be found there; they can "
            f"for {', '.join(known)}. Use CoOp's folders (--config.data.source=coop), or leave data.splits empty."
        )
    folder = storage.to_path(splits_folder)
    if not (folder / row.split_file).is_file() and (folder / row.folder / row.split_file).is_file():
        folder = folder / row.folder
    path = coop.split_file(folder, row)
    found = listing.load_json(path)
    coop.check_classes(found, row, name, path)
    return found


def _by_files(name: str, row: DatasetRow, records: dict[str, Records], found: Listing, exif: bool) -> ImageDataset:
    """CoOp's splits, each path looked up among the records' file names."""
    sources = tuple(records.values())
    place_of = {
        key: (part, index)
        for part, (split, source) in enumerate(records.items())
        for index, key in enumerate(_paths(row, split, source))
    }
    splits, absent = {}, []
    for split in SPLITS:
        paths = tuple(path for path, _, _ in found[split])
        places = [place_of.get(path.lower(), (0, -1)) for path in paths]
        absent += [path for path, (_, index) in zip(paths, places, strict=True) if index < 0]
        labels = np.array([label for _, label, _ in found[split]], np.int64)
        splits[split] = ImageSplit(labels, RecordLoader(sources, _as_places(places), paths, exif))
    return ImageDataset(
        name=name,
        class_names=listing.class_names(found, row.split_file),
        template=row.template,
        notes={"source": "tfds", "tfds": row.tfds, "splits": f"{row.split_file}, found by file name in TFDS"},
        missing=tuple(absent),
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
    )


def _paths(row: DatasetRow, split: str, source: Records) -> list[str]:
    """The path that CoOp's split file gives each record; compared without case, which TFDS changes."""
    labels = [source.class_names[label] for label in source.labels]
    return [
        row.tfds_path.format(name=file, label=label, split=split).lower().lstrip("/")
        for file, label in zip(source.files, labels, strict=True)
    ]


def _by_tfds(
    name: str,
    row: DatasetRow,
    records: dict[str, Records],
    wnid_names: dict[str, str],
    split_seed: int,
    exif: bool,
) -> ImageDataset:
    """TFDS's own splits, in its order of classes, which get readable names."""
    sources = tuple(records.values())
    names = readable(name, sources[0].class_names, wnid_names)
    if row.layout == "wnids" and row.classes < len(names):  # ImageNet-A and -R: those of the 1000 that are there
        there = set(np.concatenate([source.labels for source in sources]).tolist())
        names = [readable_name if label in there else None for label, readable_name in enumerate(names)]
    kept = [label for label, readable_name in enumerate(names) if readable_name is not None]
    places = {split: _kept_places(part, source, kept) for part, (split, source) in enumerate(records.items())}
    chosen = {
        split: places[tfds_split] if tfds_split else (np.zeros(0, np.int64), _as_places([]))
        for split, tfds_split in zip(SPLITS, row.tfds_splits, strict=True)
    }
    described = ", ".join(f"{split}: {own}" for split, own in zip(SPLITS, row.tfds_splits, strict=True) if own)
    if not row.tfds_splits[2]:
        labels, where = chosen["train"]
        drawn = random_splits(labels, split_seed, [names[label] or "" for label in kept])
        chosen = {split: (labels[drawn[split]], where[drawn[split]]) for split in SPLITS}
        described = f"drawn by config.data.split_seed from {row.tfds_splits[0]}"
    notes = {"source": "tfds", "tfds": row.tfds, "splits": f"TFDS's own ({described})"}
    splits = {s: ImageSplit(labels, RecordLoader(sources, where, None, exif)) for s, (labels, where) in chosen.items()}
    return ImageDataset(
        name=name,
        class_names=tuple(names[label] or "" for label in kept),
        template=row.template,
        notes=notes,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
    )


def _kept_places(part: int, source: Records, kept: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] among the kept classes and places [N, 2] of the records that have one of them."""
    position = np.full(len(source.class_names), -1)
    position[list(kept)] = np.arange(len(kept))
    labels = position[source.labels]
    indices = np.flatnonzero(labels >= 0)
    return labels[indices], np.column_stack([np.full_like(indices, part), indices])


def _as_places(places: Sequence[tuple[int, int]]) -> np.ndarray[Any, Any]:
    return np.array(places, np.int64).reshape(-1, 2)
