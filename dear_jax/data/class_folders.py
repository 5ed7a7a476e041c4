"""Folders of images, one per class: what is in them, in an order that depends on no file system."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from etils import epath
from PIL import Image

from dear_jax.data import images as readers  # which registers what Pillow alone does not read
from dear_jax.errors import UserError, count
from dear_jax.files import storage

NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}  # formats of Pillow that are no photographs
# What file servers, archives and desktops add; other hidden files and folders begin with a dot.
OTHERS = ("@eaDir", "__MACOSX", "Thumbs.db", "desktop.ini")


def _suffixes() -> tuple[str, ...]:
    """Of every kind of image that Pillow reads, lower case."""
    known = Image.registered_extensions()
    return tuple(sorted(suffix for suffix, kind in known.items() if kind in Image.OPEN and kind not in NO_PICTURES))


SUFFIXES = _suffixes()


class Found(NamedTuple):
    """The images below a folder, and what was not taken for one."""

    images: list[str]  # sorted paths
    left_out: list[str]  # files that are not hidden and whose names have no image's suffix


def describe_left_out(paths: Sequence[str]) -> str:
    """What to say of files below folders of images whose names have no image's suffix."""
    heic = sum(path.lower().endswith(readers.HEIC) for path in paths)
    hint = f" {count(heic, 'of them is', 'of them are')} HEIC. {readers.HEIC_HINT}" if heic else ""
    return f"{count(len(paths), 'file is', 'files are')} left out, without the suffix of an image: {some(paths)}.{hint}"


def some(paths: Sequence[str]) -> str:
    """The first five paths."""
    return ", ".join(paths[:5]) + (", ..." if len(paths) > 5 else "")


def class_folders(folder: epath.Path) -> list[str]:
    """The names of the folders in a folder, sorted, hidden ones left out."""
    try:
        return [name for name in storage.entries(folder)[0] if not _is_hidden(name)]
    except storage.failures() as error:
        raise UserError(f"config.data.root: expected class folders in {folder}; {storage.reason(error)}.") from error


def image_files(folder: epath.Path) -> list[str]:
    """The names of the images in a folder, sorted; what has no image's suffix is left out."""
    try:
        names = storage.entries(folder)[1]
    except storage.failures() as error:
        raise UserError(f"The class folder {folder} cannot be read: {storage.reason(error)}.") from error
    return list(filter(is_image, names))


def is_image(name: str) -> bool:
    """Whether a file's name has an image's suffix; hidden files are none."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def images_below(root: epath.Path, folder: epath.Path) -> Found:
    """What is anywhere below a folder, as sorted paths relative to `root`; nothing of hidden folders.

    Raises:
        UserError: `root` is that of the file system, whose files are the machine's.
    """
    if not storage.is_remote(root) and Path(root).resolve() == Path("/"):
        raise UserError(f"{root} is the root of the file system: give the folder that holds the images.")
    above, found = folder.relative_to(root), Found([], [])
    for file in storage.files_below(folder):
        *folders, name = file.split("/")
        if not any(map(_is_hidden, (*folders, name))):
            (found.images if is_image(name) else found.left_out).append((above / file).as_posix())
    return found


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in OTHERS


def check_filled(images: Mapping[str, Sequence[str]], where: epath.Path, hint: str = "") -> None:
    """Refuse classes without images: how many, and the first ten; `hint` says what else may be of use."""
    empty = [name for name, files in images.items() if not files]
    if empty:
        which = count(len(empty), "class folder holds", "class folders hold")
        advice = f"Add images, or take the folder{'s' * (len(empty) > 1)} away. {hint}".strip()
        raise UserError(f"{where}: {which} no image: {', '.join(empty[:10])}. {advice}")
