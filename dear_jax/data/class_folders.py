"""Folders of images, one per class: what is in them, in an order that depends on no file system."""

from collections.abc import Mapping, Sequence

from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import storage

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def class_folders(folder: epath.Path) -> list[str]:
    """The names of the folders in a folder, sorted, hidden ones left out."""
    try:
        return [name for name in storage.entries(folder)[0] if not name.startswith(".")]
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


def images_below(root: epath.Path, folder: epath.Path) -> list[str]:
    """The images anywhere below a folder, as sorted paths relative to `root`."""
    above = folder.relative_to(root)
    return [(above / file).as_posix() for file in storage.files_below(folder) if is_image(file.rpartition("/")[2])]


def check_filled(images: Mapping[str, Sequence[str]], where: epath.Path) -> None:
    """Refuse classes without images: how many, and the first ten."""
    empty = [name for name, files in images.items() if not files]
    if empty:
        raise UserError(
            f"{where}: {len(empty)} class folders hold no image: {', '.join(empty[:10])}. Add images, or take the "
            "folders away."
        )
