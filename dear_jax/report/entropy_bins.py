"""Bins for a histogram of Concept Entropy whose edges include the thresholds, so that no bar mixes their two sides."""

import math
from collections.abc import Sequence

import numpy as np

ABOUT = 20  # bins


def entropy_bins(entropies: Sequence[float], low: float, high: float) -> tuple[np.ndarray, list[int]]:
    """Equal bins over 0..maximum.

    Args:
        entropies: bits.
        low: a head at `low` is a specialist: it belongs to the bin on the left.
        high: a head at `high` is a generalization head: it belongs to the bin on the right.

    Returns:
        Edges [bins + 1], the first at most 0, and the bin of every entropy.
    """
    end = max(*entropies, high, 1e-3)
    width = (high - low) / max(1, round(ABOUT * (high - low) / end))
    if width < end / (3 * ABOUT):  # thresholds (nearly) the same: only one can be an edge
        width = end / ABOUT
    first = -math.ceil(low / width - 1e-9)  # edge 0 is at `low`
    places = [
        math.floor(_snap((e - low) / width)) if e >= high else math.ceil(_snap((e - low) / width)) - 1
        for e in entropies
    ]
    last = max(*places, math.ceil((high - low) / width - 1e-9))
    return low + width * np.arange(first, last + 2), [max(place - first, 0) for place in places]


def _snap(place: float) -> float:
    """A place that rounding left beside an edge, on it."""
    return round(place) if abs(place - round(place)) < 1e-9 else place
