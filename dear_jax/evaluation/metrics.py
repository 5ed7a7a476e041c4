"""What predictions are worth: one function per metric, one row in `METRICS`.

Tables show the first; results.json, results.md and metrics.jsonl have every one of them.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Metric = Callable[[Int[np.ndarray, "*R n"], Int[np.ndarray, "n"], int], Float[np.ndarray, "*R"]]


def accuracy(predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], classes: int) -> Float[np.ndarray, "*R"]:
    """Top-1 accuracy in percent, micro-averaged over n images.

    Args:
        predicted: the classes that are predicted, of any number of runs.
        labels: the true ones.
        classes: how many there are.
    """
    return np.asarray(100.0 * np.sum(predicted == labels, axis=-1) / len(labels))


METRICS: dict[str, Metric] = {"accuracy": accuracy}  # the first is that of the tables
MAIN = next(iter(METRICS))
