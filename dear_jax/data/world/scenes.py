"""What the pictures of the embedded world show: the vocabulary of attributes and the random draw of scenes.

Comes in: a random stream's seed and scene indices. Goes out: `Scenes`, arrays with one row per scene.
Every number of scene i is a hash of (seed, i, name of the draw): random access without any state.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "color": ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"),
    "shape": ("circle", "square", "triangle", "star", "heart", "cross", "diamond"),
    "texture": ("plain", "striped", "dotted", "checkered", "ringed", "faded"),
    "object": (
        "car",
        "boat",
        "house",
        "bird",
        "robot",
        "fish",
        "flower",
        "cat",
        "spider",
        "rocket",
    ),
    "position": ("top left", "top right", "center", "bottom left", "bottom right"),
    "background": ("sky", "night", "grass", "sand", "snow", "brick"),
}
NAMES: tuple[str, ...] = tuple(ATTRIBUTES)
SIZES: tuple[int, ...] = tuple(len(values) for values in ATTRIBUTES.values())

# Everything about a scene that no caption mentions; each a number in [0, 1).
NUISANCES = (
    "across", "down", "radius", "tilt", "light", "mirror", "phase_across", "phase_down",
    "scenery_across", "scenery_down", "scenery_light",
)  # fmt: skip


@dataclass(frozen=True)
class Scenes:
    """N scenes, one row each.

    Attributes:
        labels: int [N, 6], the attributes' values as positions in `ATTRIBUTES`, columns in its order.
        nuisances: float32 [N, len(NUISANCES)] in [0, 1).
        keys: uint64 [N], each scene's own key for further random numbers (noise, clutter).
    """

    labels: np.ndarray
    nuisances: np.ndarray
    keys: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def label(self, attribute: str) -> np.ndarray:
        """The column of one attribute, int [N]."""
        return self.labels[:, NAMES.index(attribute)]

    def between(self, nuisance: str, low: float, high: float) -> np.ndarray:
        """One nuisance, uniform between low and high, float32 [N, 1, 1] to go with images."""
        column = self.nuisances[:, NUISANCES.index(nuisance)]
        return (low + (high - low) * column).astype(np.float32)[:, None, None]


def draw_scenes(
    seed: int, indices: Sequence[int] | np.ndarray, fixed: Mapping[str, np.ndarray] | None = None
) -> Scenes:
    """The scenes `indices` of the stream `seed`; `fixed` sets whole columns of labels, int [N] each."""
    indices = np.atleast_1d(np.asarray(indices, np.uint64))
    keys = hash_numbers(indices ^ hash_numbers(np.uint64(seed)))
    numbers = random_numbers(keys, len(NAMES) + len(NUISANCES))
    labels = (numbers[:, : len(NAMES)] * np.asarray(SIZES)).astype(np.int32)
    for attribute, column in (fixed or {}).items():
        labels[:, NAMES.index(attribute)] = column
    return Scenes(labels, numbers[:, len(NAMES) :].astype(np.float32), keys)


def random_numbers(keys: np.ndarray, count: int) -> np.ndarray:
    """float64 [N, count] in [0, 1): `count` numbers per key, the same for a key in any company."""
    counters = keys[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (hash_numbers(counters) >> np.uint64(11)).astype(np.float64) / 2.0**53


def hash_numbers(numbers: np.ndarray | np.uint64) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele et al., 2014): a bijection of 64-bit numbers that looks random."""
    mixed = np.atleast_1d(numbers)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
