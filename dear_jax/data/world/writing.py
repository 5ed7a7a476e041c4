"""Words on pictures of the embedded world: capitals of five by seven pixels, no font file.

Comes in: texts. Goes out: where their ink and their paper are; `render.py` paints them.
"""

from collections.abc import Sequence

import numpy as np

WIDTH, HEIGHT = 5, 7  # of a letter, pixels
_COLUMNS = {  # of a letter, left to right; the lowest bit is the highest pixel
    "a": "7e1111117e", "b": "7f49494936", "c": "3e41414122", "d": "7f4141221c", "e": "7f49494941", "f": "7f09090901",
    "g": "3e4149497a", "h": "7f0808087f", "i": "00417f4100", "j": "2040413f01", "k": "7f08142241", "l": "7f40404040",
    "m": "7f020c027f", "n": "7f0408107f", "o": "3e4141413e", "p": "7f09090906", "q": "3e4151215e", "r": "7f09192946",
    "s": "4649494931", "t": "01017f0101", "u": "3f4040403f", "v": "1f2040201f", "w": "3f4038403f", "x": "6314081463",
    "y": "0708700807", "z": "6151494543",
}  # fmt: skip


def write(text: str) -> np.ndarray:
    """The ink of a text, a word per line, with paper of a pixel around each letter: bool [h, w].

    Raises:
        ValueError: anything but the letters a to z and blanks between words.
    """
    words = text.split()
    if not words or set("".join(words)) - set(_COLUMNS):
        raise ValueError(f"text: expected words of the letters a to z, got {text!r}")
    width = max(len(word) for word in words) * (WIDTH + 1) + 1
    ink = np.zeros((len(words) * (HEIGHT + 1) + 1, width), bool)
    for line, word in enumerate(words):
        top = line * (HEIGHT + 1) + 1
        for number, letter in enumerate(word):
            left = number * (WIDTH + 1) + 1
            ink[top : top + HEIGHT, left : left + WIDTH] = _letter(letter)
    return ink


def _letter(letter: str) -> np.ndarray:
    columns = np.frombuffer(bytes.fromhex(_COLUMNS[letter]), np.uint8)
    return np.unpackbits(columns[None], axis=0, bitorder="little")[:HEIGHT].astype(bool)


def place(texts: Sequence[str], low: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Ink and paper on pictures of `size` pixels, float32 [N, size, size] of 0 and 1 each.

    A text stands in the middle of the lowest rows where `low` (bool [N]) says so, else of the highest.

    Raises:
        ValueError: a text with other letters, or that is larger than a picture.
    """
    ink, paper = np.zeros((2, len(texts), size, size), np.float32)
    for row, text in enumerate(texts):
        written = write(text)
        height, width = written.shape
        if max(height, width) > size:
            raise ValueError(f"text: expected one of {size} pixels at most, got {text!r} of {width} x {height}")
        top, left = (size - height) * int(low[row]), (size - width) // 2
        where = row, slice(top, top + height), slice(left, left + width)
        ink[where], paper[where] = written, 1
    return ink, paper
