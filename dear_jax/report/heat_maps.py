"""Heat maps of images: overlays as PNG files, their numbers as CSV and NumPy arrays, and all of it as one HTML page.

In: what explains each image (`Explained`), and the images as the model sees them. Out: names and contents of files.
The colors are viridis of matplotlib, perceptually uniform, from the least to the greatest value of each map.
"""

import dataclasses
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from dear_jax.report import pages
from dear_jax.report.text_tables import to_csv

PAGE, TABLE, ARRAYS, FOLDER = "explanations.html", "explanations.csv", "explanations.npz", "maps"
COLORS = "viridis"
OPACITY = 0.6  # of the colors over the grey image
SHOWN = 160  # pixels of a picture on the page, at most
TOP = 3  # heads named
CONTRIBUTION, ATTENTION = "contribution", "attention"
PARTS = {
    "patches": "patches",
    "first": "class token",
    "learned": "learned tokens",
    "mlps": "MLPs",
    "biases": "attention biases",
    "before": "what entered",
    "norm_bias": "last LayerNorm's bias",
}


@dataclasses.dataclass(frozen=True)
class Explained:
    """Where one path's logit of one image for one text comes from; all but the attention in points of the logit."""

    path: str
    text: str
    logit: float  # patches.sum() + the sum of parts
    patches: Float[np.ndarray, "side side"]  # contribution of each patch, over all layers and heads
    parts: Mapping[str, float]  # what is not of a patch, keys of PARTS
    heads: Float[np.ndarray, "n H"]  # contribution of each head of layers 1..n, over all places
    attention: Float[np.ndarray, "side side"] | None  # of the path's token to the patches; None: of several paths
    looking: int  # over how many heads of all layers the attention is the mean; 0: none may look at a patch

    @property
    def shares(self) -> dict[str, float]:
        """All parts by their names for readers; they sum up to the logit."""
        parts = {"patches": float(self.patches.sum()), **self.parts}
        return {title: parts[name] for name, title in PARTS.items()}

    @property
    def top(self) -> str:
        """The heads that contribute most, LAYER.HEAD as the role map names them."""
        order = np.argsort(-self.heads, axis=None, kind="stable")[:TOP]
        places = [np.unravel_index(index, self.heads.shape) for index in order]
        return ", ".join(f"{layer + 1}.{head} ({self.heads[layer, head]:+.2f})" for layer, head in places)


@dataclasses.dataclass(frozen=True)
class OfImage:
    """An image with what explains it."""

    number: int  # from 1, in the order of the images given
    name: str
    picture: UInt8[np.ndarray, "h w 3"]
    rows: Sequence[Explained]


@dataclasses.dataclass(frozen=True)
class Panel:
    """A picture on the page, with what is below it."""

    picture: int
    title: str
    note: str


def files_of(
    images: Sequence[OfImage], bad: Mapping[str, str], title: str, about: str, omitted: int
) -> Iterator[tuple[str, bytes]]:
    """All files: the overlays, the table, the arrays and the page.

    Args:
        images: explained ones; at least one, or only the table is made.
        bad: name -> why, of the images that could not be read.
        title: of the page.
        about: by what they are explained.
        omitted: images that were not explained.
    """
    for image in images:
        yield from pngs(image)
    yield TABLE, csv(images, bad).encode(errors="backslashreplace")
    if images:
        yield ARRAYS, arrays(images)
        yield PAGE, html(images, title, about, omitted).encode(errors="backslashreplace")


@functools.cache
def _colors() -> UInt8[np.ndarray, "256 3"]:
    return (255 * mpl.colormaps[COLORS](np.arange(256))[:, :3]).round().astype(np.uint8)


def overlay(picture: UInt8[np.ndarray, "h w 3"], values: Float[np.ndarray, "side side"]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture in grey under the colors of the map, which is resized (bilinear)."""
    size = (picture.shape[1], picture.shape[0])
    small = Image.fromarray(np.asarray(values, np.float32))
    large = np.asarray(small.resize(size, Image.Resampling.BILINEAR))
    low, high = float(values.min()), float(values.max())
    level = np.clip((large - low) / ((high - low) or 1.0), 0, 1)
    colors = _colors()[(255 * level).round().astype(int)].astype(np.float32)
    grey = np.asarray(Image.fromarray(picture).convert("L"), np.float32)[..., None]
    return (OPACITY * colors + (1 - OPACITY) * grey).round().astype(np.uint8)


def maps_of(row: Explained) -> dict[str, np.ndarray]:
    """Its maps by their kind."""
    return {CONTRIBUTION: row.patches} | ({} if row.attention is None else {ATTENTION: row.attention})


def pngs(image: OfImage) -> Iterator[tuple[str, bytes]]:
    """The overlays of an image, each once: FOLDER/NUMBER-PATH[-TEXT]-KIND.png."""
    for file, values in _files(image).items():
        content = io.BytesIO()
        Image.fromarray(overlay(image.picture, values)).save(content, "PNG")
        yield file, content.getvalue()


def _files(image: OfImage) -> dict[str, np.ndarray]:
    """Name of a file -> its map; the attention of a path does not depend on the text."""
    return {_file(image, row, kind): values for row in image.rows for kind, values in maps_of(row).items()}


def _file(image: OfImage, row: Explained, kind: str) -> str:
    texts = list(dict.fromkeys(row.text for row in image.rows))
    path = re.sub(r"[^\w-]+", "_", row.path)
    text = f"-{texts.index(row.text) + 1}" if len(texts) > 1 and kind == CONTRIBUTION else ""
    return f"{FOLDER}/{image.number:04d}-{path}{text}-{kind}.png"


def csv(images: Sequence[OfImage], bad: Mapping[str, str]) -> str:
    """A row per image, path and text; then the images that could not be read, with why."""
    table: list[list[object]] = [
        ["number", "image", "path", "text", "logit", *PARTS.values(), "top heads", "heads looking", "map", "problem"]
    ]
    for image in images:
        for row in image.rows:
            numbers = [f"{value:.6g}" for value in (row.logit, *row.shares.values())]
            file = _file(image, row, CONTRIBUTION)
            looking = "" if row.attention is None else row.looking
            table.append([image.number, image.name, row.path, row.text, *numbers, row.top, looking, file, ""])
    width = len(table[0])
    table += [["", name, *[""] * (width - 3), problem] for name, problem in bad.items()]
    return to_csv(table)


def arrays(images: Sequence[OfImage]) -> bytes:
    """The maps as they are: `maps` and `attention` [rows, side, side], `heads` [rows, n, H], in the table's order."""
    rows = [row for image in images for row in image.rows]
    content = io.BytesIO()
    nothing = np.full_like(rows[0].patches, np.nan)
    np.savez_compressed(
        content,
        maps=np.stack([row.patches for row in rows]),
        attention=np.stack([nothing if row.attention is None else row.attention for row in rows]),
        heads=np.stack([row.heads for row in rows]),
        logits=np.array([row.logit for row in rows], np.float32),
    )
    return content.getvalue()


def html(images: Sequence[OfImage], title: str, about: str, omitted: int) -> str:
    """The page.

    Args:
        images: to show.
        title: of the page.
        about: by what they are explained.
        omitted: images that were not explained.
    """
    pictures: list[np.ndarray] = []

    def place(picture: np.ndarray) -> int:
        small = Image.fromarray(picture).resize((SHOWN, SHOWN), Image.Resampling.BILINEAR)
        pictures.append(np.asarray(small))
        return len(pictures) - 1

    blocks = []
    for image in images:
        own = place(image.picture)
        panels = [_panels(image, row, place) for row in image.rows]
        blocks.append({"image": image, "picture": own, "rows": list(zip(image.rows, panels, strict=True))})
    return pages.render(
        "explanations.html",
        heading=title,
        about=about,
        blocks=blocks,
        pictures=np.stack(pictures),
        omitted=omitted,
        colors=[f"#{r:02x}{g:02x}{b:02x}" for r, g, b in _colors()[::51]],
    )


def _panels(image: OfImage, row: Explained, place: Callable[[np.ndarray], int]) -> list[Panel]:
    found = []
    for kind, values in maps_of(row).items():
        unit = "points" if kind == CONTRIBUTION else "of all attention"
        note = f"{values.min():.3g} to {values.max():.3g} {unit} a patch"
        if kind == ATTENTION:
            heads = f"mean over {row.looking} heads"
            note = f"{note}, {heads}" if row.looking else "none: no head of this path may look at a patch"
        found.append(Panel(place(overlay(image.picture, values)), kind, note))
    return found
