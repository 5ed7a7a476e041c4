"""From a data set's name and where its files are to an `ImageDataset`, whatever the source.

What is missing or empty is refused, everything that is wrong at once.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from dear_jax.data import listing, twice
from dear_jax.data.datasets import DatasetRow, find_row, ways
from dear_jax.data.image_dataset import ImageDataset, ImageSplit, Load
from dear_jax.data.images import READ_AS, FileLoader
from dear_jax.data.prompts import prompts
from dear_jax.data.sources import coop, folder, hf
from dear_jax.data.sources import tfds as tfds_source
from dear_jax.data.world import tasks
from dear_jax.errors import UserError, count

SOURCES = ("auto", "coop", "tfds", "folder", "hf")


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the files of a data set are, and how they are read: the keys of config.data.

    Attributes:
        source: one of `SOURCES`; auto: coop when a root is given, else tfds.
        root: coop: the folder above the data sets' folders; tfds: its data_dir; folder: that of the classes; hf:
            USER/DATASET, or a folder that `datasets` has saved.
        splits: tfds: a folder with CoOp's split files, to find these splits there.
        split_seed: of splits that have to be drawn.
        skip_bad: whether images that are absent or unreadable are left out later, not refused.
        exif: whether to turn images as their EXIF tag says; False: the pixels of `convert("RGB")`.
        image_column: hf: of the images; empty: the one that there is.
        label_column: hf: the same of the labels.
    """

    source: str = "auto"
    root: str = ""
    splits: str = ""
    split_seed: int = 0
    skip_bad: bool = False
    exif: bool = True
    image_column: str = ""
    label_column: str = ""


def load_dataset(
    name: str,
    places: Places | None = None,
    drawn_splits: Mapping[str, Any] | None = None,
) -> ImageDataset:
    """A data set that is whole: all files there, no class empty.

    Args:
        name: a row of `datasets.DATASETS`; with the source `folder` or `hf`, it only chooses the template.
        places: where its files are.
        drawn_splits: those that an earlier start of the same run drew.
    """
    places = places or Places()
    dataset = _read(name, places, drawn_splits)
    if dataset.notes["source"] != "world":
        dataset = dataclasses.replace(dataset, notes={**dataset.notes, "read_as": READ_AS[places.exif]})
    found = problems(dataset)
    if dataset.missing and not places.skip_bad:
        found.insert(0, listing.describe_missing(dataset.missing, f"{dataset.name} ({dataset.notes['splits']})"))
    if found:
        raise UserError(" ".join(found))
    return _note_twins(dataset)


def _note_twins(dataset: ImageDataset) -> ImageDataset:
    """The data set with a note, also printed, on images that are in training and in test."""
    twins = twice.in_both(dataset.train, dataset.test)
    if not twins:
        return dataset
    some = ", ".join(twins[:5]) + (", ..." if len(twins) > 5 else "")
    note = (
        f"{len(twins)} of {count(len(dataset.test), 'test image')} {'is' if len(twins) == 1 else 'are'} in both "
        f"training and test (files of the same content): accuracies on them mean nothing: {some}."
    )
    print(f"{dataset.name}: {note}", flush=True)
    return dataclasses.replace(dataset, notes={**dataset.notes, "in_train_and_test": note})


def _read(
    name: str,
    places: Places,
    drawn_splits: Mapping[str, Any] | None = None,
) -> ImageDataset:
    """The data set as it is; `missing` lists the absent files."""
    row = find_row(name)
    if places.source not in SOURCES:
        raise UserError(f"config.data.source: expected one of {', '.join(SOURCES)}, found {places.source!r}.")
    if places.source == "hf" or name == "hf":
        if row.folder and not (places.root or row.hub):
            raise UserError(
                f"config.data.root is empty, and no copy of {name} on the Hugging Face Hub is known that `datasets` "
                f"loads. Give one as USER/DATASET. {ways(row)}"
            )
        dataset = hf.load(
            places.root or row.hub,
            template=row.template,
            image_column=places.image_column,
            label_column=places.label_column,
            split_seed=places.split_seed,
            earlier=drawn_splits,
            exif=places.exif,
        )
        return _describe(dataset, row)
    if places.source == "folder" or name == "folder":
        dataset = folder.load(
            places.root,
            template=row.template,
            split_seed=places.split_seed,
            earlier=drawn_splits,
            exif=places.exif,
        )
        return _describe(dataset, row)
    if name in tasks.TASKS:
        dataset = dataclasses.replace(tasks.load(name), notes={"source": "world", "splits": "scenes drawn by index"})
    elif places.source == "coop" or (places.source == "auto" and places.root):
        dataset = coop.load(name, row, places.root, places.exif)
    else:
        dataset = tfds_source.load(
            name,
            row,
            places.root,
            splits_folder=places.splits,
            split_seed=places.split_seed,
            exif=places.exif,
        )
    return _describe(dataset, row)


def problems(dataset: ImageDataset) -> list[str]:
    """What makes a data set unfit, beside files missing: names that are empty, classes without images."""
    found = []
    try:
        prompts(dataset.class_names, dataset.template)
    except UserError as error:
        found.append(str(error))
    for split, counts in dataset.counts().items():
        empty = [dataset.class_names[label] for label, count in enumerate(counts) if not count]
        if split != "val" and 0 < len(empty) < len(counts):
            found.append(
                f"{dataset.name}: {count(len(empty), 'class has', 'classes have')} no {split} image: "
                f"{', '.join(empty[:10])}. Add images, or leave such classes out."
            )
    if not len(dataset.test):
        found.append(f"{dataset.name}: there is no test image.")
    return found


def _describe(dataset: ImageDataset, row: DatasetRow) -> ImageDataset:
    """Add to the notes what every source has, and whether results compare with published ones."""
    images = {split: sum(counts) for split, counts in dataset.counts().items()}
    source, why = dataset.notes["source"], _why_not_comparable(dataset, row, images)
    notes = {
        "name": dataset.name,
        **dataset.notes,
        "images": images,
        "listing_sha256": listing_digest(dataset),
        "comparable": not why,
        "remark": "" if source == "world" else why or row.remarks.get(source, ""),
        "class_names": list(dataset.class_names),
    }
    return dataclasses.replace(dataset, notes=notes, distinct_names=row.distinct_names)


def listing_digest(dataset: ImageDataset) -> str:
    """SHA-256 of class names and, per split, of labels and the images' names: equal where the same images are seen.

    What the images show is not read. Those of the embedded world have no names, and follow from its own.
    """
    digest = hashlib.sha256(repr((dataset.name, dataset.class_names)).encode())
    for split in (dataset.train, dataset.val, dataset.test):
        digest.update(split.labels.tobytes())
        digest.update("\n".join(_image_names(split.load)).encode(errors="surrogateescape"))
    return digest.hexdigest()


def same_images(one: ImageSplit, other: ImageSplit) -> bool:
    """Whether two splits are made of the same files or records, as ImageNet's val and test are."""
    names = list(_image_names(one.load))
    return bool(names) and names == list(_image_names(other.load))


def _image_names(load: Load) -> Iterable[str]:
    if isinstance(load, FileLoader):
        return load.paths
    if isinstance(load, hf.RowLoader):
        return load.names
    if isinstance(load, tfds_source.RecordLoader):
        return load.names or map(str, load.places.tolist())
    return ()


def _why_not_comparable(dataset: ImageDataset, row: DatasetRow, images: Mapping[str, int]) -> str:
    """Why results must not stand beside published ones; empty if they may."""
    source = dataset.notes["source"]
    if source == "world":
        return "The embedded world is this project's own."
    if source == "folder":
        return "These images and splits are the user's own."
    if source == "hf":
        return "Not comparable with published tables: images, classes and splits are the data set's own."
    if source == "tfds" and row.tfds_path and row.split_file not in dataset.notes["splits"]:
        return (
            "Not comparable with published tables: splits, and base and new by class order, are TFDS's. Give CoOp's "
            "split files by config.data.splits."
        )
    if source == "tfds" and row.layout == "split file" and not row.tfds_path:
        return (
            "Not comparable with published tables: splits, and base and new by class order, are TFDS's, which keeps no "
            "file names of this data set; use CoOp's folders."
        )
    if tuple(images.values()) != row.images:
        return (
            f"Not comparable with published tables: those have {row.images[0]} train, {row.images[1]} val and "
            f"{row.images[2]} test images."
        )
    return ""
