"""Images without labels: files that a pattern, a folder or a list names, and pictures that a program holds.

In: what a user gives. Out: a split, its labels all 0, that names and loads the images like those of any data set.
"""

import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dear_jax.data import images
from dear_jax.data.class_folders import describe_left_out, images_below, is_image, some
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError, count, show

Item = str | Path | Image.Image | np.ndarray
WANTED = "a path, a PIL image, or an array uint8 [H, W, 3]"


@dataclasses.dataclass(frozen=True)
class ItemLoader:
    """Index -> image, for items of any kind.

    Attributes:
        items: what to read.
        names: how messages call them.
        exif: whether to turn images as their EXIF tag says.
    """

    items: tuple[Item, ...]
    names: tuple[str, ...]
    exif: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """Where they are on a disk; empty texts for what a program holds."""
        return tuple(str(item) if isinstance(item, str | Path) else "" for item in self.items)

    def __call__(self, index: int) -> np.ndarray:
        """The image, uint8 [H, W, 3]."""
        item = self.items[index]
        try:
            if isinstance(item, str | Path):
                return images.read(Path(item), self.exif)
            picture = item if isinstance(item, Image.Image) else Image.fromarray(item)
            return images.to_array(picture, self.names[index], self.exif)
        except UserError as error:  # its advice is for data sets
            raise UserError(str(error).removesuffix(images.SKIP_HINT).strip()) from error


def find(text: str) -> tuple[str, ...]:
    """The image files that a text names, sorted. What a folder or a pattern leaves out is counted and named on screen.

    Args:
        text: a folder: all images below it; a file `*.txt`: a path per line; an image; or a pattern, where `*` stands
            for any part of a name and `**` for any folders. Paths are relative to the current folder.

    Raises:
        UserError: it names nothing.
    """
    path = Path(os.path.expanduser(text))
    found: list[str] = []
    left_out = ""
    if text and path.is_dir():
        below = images_below(path, path)
        found = [str(path / name) for name in below.images]
        left_out = describe_left_out(below.left_out) if below.left_out else ""
    elif path.is_file():
        found = _read_list(path) if path.suffix == ".txt" else [str(path)]
    elif text:
        found = sorted(str(found) for found in _match(path) if found.is_file())
        left_out = _describe_misfits(path, found)
    if left_out:
        print(f"{text}: {left_out}", flush=True)
    if not found:
        raise UserError(
            f"No image is found by {show(text)} in {Path.cwd()}. Give a folder, a text file with a path per "
            "line, or a pattern in quotes, such as 'photos/*.jpg' or 'photos/**/*.png'."
        )
    return tuple(found)


def asked_for(images: str, exif: bool) -> ImageSplit:
    """The images of `config.images`.

    Raises:
        UserError: it is empty, or as `gather` says.
    """
    if not images:
        raise UserError(
            "config.images is empty: give a folder, a pattern in quotes such as --config.images='photos/*.jpg', or a "
            "text file with a path per line."
        )
    return gather(images, exif)


def top(text: str) -> Path:
    """The folder that all images of a text (`find`) lie below: of `photos/**/*.jpg` it is `photos`."""
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        return path
    if path.is_file():
        listed = _read_list(path) if path.suffix == ".txt" else [text]
        return Path(os.path.commonpath([os.path.abspath(os.path.dirname(name)) for name in listed] or [os.curdir]))
    return _split(path)[0]


def _split(pattern: Path) -> tuple[Path, Path]:
    """The folder that is there by a pattern's very names, such as `a[1]`, which are no patterns; and the rest."""
    parts = pattern.parts
    known = next(n for n in range(len(parts) - 1, -1, -1) if Path(*parts[:n]).is_dir())
    return Path(*parts[:known]), Path(*parts[known:])


def _match(pattern: Path) -> list[Path]:
    """What fits a pattern."""
    folder, rest = _split(pattern)
    return [folder / name for name in glob.glob(str(rest), root_dir=folder, recursive=True)]


def _describe_misfits(pattern: Path, found: Sequence[str]) -> str:
    """The images that a pattern would find if it ended otherwise, such as .JPG or .heic against *.jpg; or nothing."""
    if not pattern.suffix or any(sign in pattern.suffix for sign in "*?["):
        return ""
    others = {str(path) for path in _match(pattern.with_suffix(".*")) if path.is_file()} - set(found)
    misfits = sorted(path for path in others if is_image(path) or path.lower().endswith(images.HEIC))
    if not misfits:
        return ""
    unread = not all(map(is_image, misfits))
    return (
        f"{count(len(misfits), 'image ends', 'images end')} otherwise and {'is' if len(misfits) == 1 else 'are'} left "
        f"out: {some(misfits)}. Give the folder to have images of every kind."
        + (f" {images.HEIC_HINT}" if unread else "")
    )


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The list {path} cannot be read: {error}.") from error
    return [line.strip() for line in lines if line.strip()]


def gather(given: str | Path | Item | Sequence[Item], exif: bool = True) -> ImageSplit:
    """Images of a text (`find`), or of one or several items.

    Args:
        given: a text as `find` takes it; or an item or a sequence of items: paths, PIL images, arrays uint8 `[H, W, 3]`
            (also `[H, W]`, or with transparency `[H, W, 4]`). An array `[N, H, W, 3]` is N images.
        exif: whether to turn images as their EXIF tag says.

    Raises:
        UserError: nothing is given or found, or an item is of another kind.
    """
    if isinstance(given, str | Path):
        items: list[Item] = list(find(str(given)))
    elif isinstance(given, Image.Image) or getattr(given, "ndim", 4) < 4:
        items = [_check(given, 0)]
    else:
        items = [_check(item, index) for index, item in enumerate(given)]
    if not items:
        raise UserError(f"images: expected at least one image, found an empty {type(given).__name__}.")
    names = tuple(_name(item, index) for index, item in enumerate(items))
    return ImageSplit(np.zeros(len(items), np.int64), ItemLoader(tuple(items), names, exif))


def _check(item: Any, index: int) -> Item:
    if isinstance(item, str | Path | Image.Image):
        return item
    if not hasattr(item, "__array__"):
        raise UserError(f"images[{index}]: expected {WANTED}; found {type(item).__name__}.")
    array = np.asarray(item)
    pixels = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not pixels or not array.size:
        raise UserError(
            f"images[{index}]: expected {WANTED} with values 0 to 255; found an array {array.dtype} "
            f"{list(array.shape)}. Float images in [0, 1] become (255 * image).round().astype('uint8')."
        )
    return array


def _name(item: Item, index: int) -> str:
    if isinstance(item, str | Path):
        return str(item)
    return str(getattr(item, "filename", "")) or f"image {index}"


def unreadable(bad: Sequence[str], of: int) -> str:
    """What to say at the end about those of so many images that could not be read."""
    others = "; the others are done" if len(bad) < of else ""
    more = f" And {len(bad) - 10} more." if len(bad) > 10 else ""
    return f"{len(bad)} of {count(of, 'image')} could not be read{others}. {' '.join(bad[:10])}{more}"
