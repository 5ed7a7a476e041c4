"""Many thumbnails as a few images: sheets of up to 16 x 16, each a data URI, so that a page holds each picture once."""

import base64
import io

import numpy as np
from PIL import Image

SIDE = 16  # thumbnails per row and column of a sheet


def sheets(images: np.ndarray) -> list[str]:
    """Thumbnails uint8 [M, s, s, 3] -> data URIs of ceil(M / 256) JPEG sheets, filled row by row."""
    return [_data_uri(_sheet(images[start : start + SIDE**2])) for start in range(0, len(images), SIDE**2)]


def place(index: int) -> tuple[int, float, float]:
    """Sheet of thumbnail `index`, and its background-position there, in percent of x and y."""
    sheet, cell = divmod(index, SIDE**2)
    row, column = divmod(cell, SIDE)
    return sheet, 100 * column / (SIDE - 1), 100 * row / (SIDE - 1)


def _sheet(images: np.ndarray) -> np.ndarray:
    count, size = images.shape[:2]
    filled = np.full((SIDE**2, size, size, 3), 255, np.uint8)
    filled[:count] = images
    return filled.reshape(SIDE, SIDE, size, size, 3).swapaxes(1, 2).reshape(SIDE * size, SIDE * size, 3)


def _data_uri(picture: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
