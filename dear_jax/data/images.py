"""Encoded images, of any kind that people have, to uint8 [H, W, 3]: read right, or refused by name.

In: a file or its bytes, and how messages call it. Out: RGB. What is transparent becomes white, what is
rotated by its EXIF tag is turned, 16 bits become 8, CMYK and palettes become RGB, of an animation the
first picture counts. Or, with `exif=False`, exactly what `Image.open(path).convert("RGB")` gives, which is how the
CoOp family's tools read: the colors under what is transparent, 16 bits clipped at 255, nothing turned, nothing shrunk.
An image that cannot be read whole is a `UserError` that names it.
"""

import contextlib
import dataclasses
import importlib.util
import io
import os
from collections.abc import Iterator

import numpy as np
from etils import epath
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from dear_jax.errors import UserError
from dear_jax.files import storage

HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None  # an extra
if HAS_HEIC:
    import pillow_heif

    pillow_heif.register_heif_opener()

MAX_PIXELS = 2**28  # 268 megapixels: 800 MB as RGB; more is refused
LARGE_PIXELS = 2**24  # 17 megapixels: what is larger is shrunk by a whole number right away, to spare memory
SKIP_HINT = "Replace it, or leave such images out by --config.data.skip_bad=true."

HEIC = (".heic", ".heics", ".heif", ".heifs", ".hif")  # names of a telephone's photographs
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")  # bytes 8 to 11 of such a file
HEIC_HINT = "HEIC is read where pillow-heif is installed: pip install 'dear_jax[heic]'."

# What results say of how images were read, by `exif`.
READ_AS = {
    True: "upright by their EXIF tags, what is transparent on white, 16 bits scaled to 8",
    False: 'Image.open(path).convert("RGB"), as the tools of the CoOp family read them',
}

# Pillow warns from 89 and refuses from 179 megapixels, whatever the format; `_check_size` stands in its place.
Image.MAX_IMAGE_PIXELS = None
# Editors leave megabytes of text and profiles in a PNG, where Pillow reads one of each by default.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 2**26


@dataclasses.dataclass(frozen=True)
class FileLoader:
    """Index -> image, for a split whose images are files.

    Attributes:
        folder: what the paths are relative to.
        paths: one per image.
        exif: whether to turn images as their EXIF tag says; False: the pixels of `convert("RGB")`.
    """

    folder: epath.Path
    paths: tuple[str, ...]
    exif: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """How to call the images."""
        return self.paths

    @property
    def files(self) -> tuple[str, ...]:
        """Where they are on a disk; empty texts in a bucket."""
        if storage.is_remote(self.folder):
            return ("",) * len(self.paths)
        return tuple(os.path.join(self.folder, path) for path in self.paths)

    def __call__(self, index: int) -> np.ndarray:
        """The image, uint8 [H, W, 3]."""
        return read(self.folder / self.paths[index], self.exif)


def read(path: epath.Path, exif: bool = True) -> np.ndarray:
    """The image of a file, uint8 [H, W, 3]."""
    try:
        data = storage.read_bytes(path)
    except storage.failures() as error:
        raise UserError(f"The image {path} cannot be read: {storage.reason(error)}. {SKIP_HINT}") from error
    return decode(data, str(path), exif)


def decode(data: bytes, name: str, exif: bool = True) -> np.ndarray:
    """The image that an encoded file holds, uint8 [H, W, 3].

    Args:
        data: the file's content.
        name: its path, or what else leads a user to it.
        exif: whether to turn it as its EXIF tag says; False: exactly the pixels of `convert("RGB")`, as the older tools
            of this field have them.

    Raises:
        UserError: it is empty, no image, too large, or cannot be read whole.
    """
    if not data:
        raise UserError(f"The image {name} is empty: 0 bytes. {SKIP_HINT}")
    try:
        with _damage_named(name), Image.open(io.BytesIO(data)) as image:
            return _to_array(image, name, exif)
    except UnidentifiedImageError as error:
        heic = f"{HEIC_HINT} " if not HAS_HEIC and data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS else ""
        raise UserError(
            f"The file {name} ({len(data)} bytes) is no image that Pillow knows. {heic}{SKIP_HINT}"
        ) from error


def to_array(image: Image.Image, name: str, exif: bool = True) -> np.ndarray:
    """An image that a program has opened, uint8 [H, W, 3], itself left as it is; otherwise as `decode`."""
    with _damage_named(name):
        return _to_array(image.copy(), name, exif)  # large JPEGs are shrunk in place


@contextlib.contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Whatever a decoder raises is the image's damage: fuzzed files bring out thirty types of exception."""
    try:
        yield
    except (UserError, UnidentifiedImageError):
        raise
    except Exception as error:
        why = str(error) or type(error).__name__
        raise UserError(f"The image {name} cannot be read whole: {why}. {SKIP_HINT}") from error


def _to_array(image: Image.Image, name: str, exif: bool) -> np.ndarray:
    _check_size(image, name)
    if not exif:
        return np.asarray(image.convert("RGB"))
    return np.asarray(_to_rgb(ImageOps.exif_transpose(_shrink(image))))


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UserError(
            f"The image {name} has {width} x {height} pixels; at most {MAX_PIXELS} in all are read. {SKIP_HINT}"
        )


def _shrink(image: Image.Image) -> Image.Image:
    """An image of at most `LARGE_PIXELS`, each pixel the mean of n x n of the file.

    A JPEG decoder does it while it decodes (powers of two); others need the whole image first. Far above the
    few hundred pixels of a CLIP's input, so no evaluation tells the difference.
    """
    width, height = image.size
    if width * height <= LARGE_PIXELS:
        return image
    if image.format in ("JPEG", "MPO"):
        image.draft(None, (max(1, width // 2), max(1, height // 2)))
        width, height = image.size
    factor = 1
    while (width // factor) * (height // factor) > LARGE_PIXELS:
        factor += 1
    if factor == 1:
        return image
    steps = (min(factor, width), min(factor, height))
    exif = image.getexif()
    reduced = _eight_bits(image).reduce(steps)
    reduced.getexif().update(exif)
    return reduced


def _to_rgb(image: Image.Image) -> Image.Image:
    image = _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes that `reduce` and `convert` handle: palettes dissolved, 16-bit grey scaled where `convert` would clip."""
    if image.mode in ("P", "1"):
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if image.mode == "F" or low < 0 or high > 65535:
        raise ValueError(f"its values go from {low:g} to {high:g}, where 0 to 255 or 0 to 65535 are understood")
    wide = image.mode != "I" or high > 255
    grey = Image.fromarray((values / 257 if wide else values).round().astype(np.uint8))
    grey.getexif().update(image.getexif())
    return grey
