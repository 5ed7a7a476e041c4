"""Accuracies and their summaries, by the conventions of the field's tables."""

from collections.abc import Mapping, Sequence

import numpy as np


def harmonic_mean(base: float, new: float) -> float:
    """HM = 2 base new / (base + new) of two accuracies in percent; 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def summarize(rows: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and population standard deviation over seeds, per key; HM's mean is the HM of the mean accuracies.

    A table's average HM is that of the averaged accuracies (CLIP's published 71.70, not 71.59).
    """
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    std = {key: float(np.std([row[key] for row in rows])) for key in rows[0]}
    if "hm" in mean:
        mean["hm"] = harmonic_mean(mean["base"], mean["new"])
    return mean, std
