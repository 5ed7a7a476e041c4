"""Small data sets on disk, in the layouts of the sources."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dear_jax.data.datasets import DATASETS

PER_CLASS = {"train": 2, "val": 1, "test": 1}


def picture(number: int) -> bytes:
    """A small PNG; the red channel of its first pixel is `number` modulo 256."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), number % 256, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = [picture(number) for number in range(256)]


def write_pictures(folder: Path, paths: list[str]) -> None:
    """Picture i at path i."""
    for parent in {(folder / path).parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        (folder / path).write_bytes(PICTURES[number % 256])


def split_listing(classes: int) -> dict[str, list[list]]:
    """The content of a split file of our own making, classes in another order than labels, as CoOp's may be."""
    return {
        split: [
            [f"class_{label}/{split}_{number}.jpg", label, f"name_{label}"]
            for label in reversed(range(classes))
            for number in range(count)
        ]
        for split, count in PER_CLASS.items()
    }


def write_layout(name: str, root: Path) -> Path:
    """The CoOp layout of a data set with all its classes and few images; returns its folder."""
    row = DATASETS[name]
    folder = root / row.folder
    folder.mkdir(parents=True)
    if row.layout == "split file":
        listing = split_listing(row.classes)
        (folder / row.split_file).write_text(json.dumps(listing))
        write_pictures(folder / row.image_folder[0], [path for entries in listing.values() for path, _, _ in entries])
    elif row.layout == "variants":
        _write_aircraft(folder, row.classes)
    else:
        _write_imagenet(folder, name)
    return folder


def _write_aircraft(folder: Path, classes: int) -> None:
    variants = [f"{label} X/{label}" for label in range(classes)]
    (folder / "variants.txt").write_text("".join(f"{variant}\n" for variant in variants))
    number = 0
    for split, count in PER_CLASS.items():
        lines = []
        for variant in variants * count:
            lines.append(f"{number:07d} {variant}\n")
            number += 1
        (folder / f"images_variant_{split}.txt").write_text("".join(lines))
    write_pictures(folder / "images", [f"{index:07d}.jpg" for index in range(number)])


def wnid(index: int) -> str:
    return f"n{index + 1440764:08d}"


def _write_imagenet(folder: Path, name: str) -> None:
    """ImageNet-A and -R have every fifth class; each class one or two images, with CoOp's README beside them."""
    row = DATASETS[name]
    names = "".join(f"{wnid(index)} name {index % 999}\n" for index in range(1000))  # 0 and 999 are called the same
    (folder / "classnames.txt").write_text(names)
    classes = range(0, 1000, 1000 // row.classes)
    for part in row.image_folder:
        class_folders = [str(index) if row.layout == "indices" else wnid(index) for index in classes]
        write_pictures(folder / part, [f"{class_folder}/image.JPEG" for class_folder in class_folders])
        (folder / part / "README.txt").write_text("no class")
        (folder / part / ".hidden").mkdir()


@pytest.fixture(name="write_layout", scope="session")
def write_layout_fixture():
    return write_layout


@pytest.fixture(name="write_pictures", scope="session")
def write_pictures_fixture():
    return write_pictures
