"""Folders of images, one per class: what is in them, in an order that depends on no file system."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from dear_jax.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def class_folders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, hidden ones left out."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"data.root: expected class folders in {folder}; {error.strerror}.") from error


def image_files(folder: Path) -> list[str]:
    """The names of the images in a folder, sorted; what has no image's suffix is left out."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise UserError(f"The class folder {folder} cannot be read: {error.strerror}.") from error
    return sorted(filter(is_image, names))


def is_image(name: str) -> bool:
    """Whether a file's name has an image's suffix; hidden files are none."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def images_below(root: Path, folder: Path) -> list[str]:
    """The images anywhere below a folder, as sorted paths relative to `root`."""
    return sorted(
        (Path(parent) / name).relative_to(root).as_posix()
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if is_image(name)
    )


def check_filled(images: Mapping[str, Sequence[str]], where: Path) -> None:
    """Refuse classes without images: how many, and the first ten."""
    empty = [name for name, files in images.items() if not files]
    if empty:
        raise UserError(
            f"{where}: {len(empty)} class folders hold no image: {', '.join(empty[:10])}. Add images, or take the "
            "folders away."
        )
