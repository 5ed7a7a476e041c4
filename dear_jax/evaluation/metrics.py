"""What predictions are worth: one function per metric, one row in `METRICS` or in `GROUP_METRICS`.

Tables show the first of `METRICS`; results.json, results.md and metrics.jsonl have every one of them. Those of
`GROUP_METRICS` are of class sets alone whose images come in groups (`ImageSplit.groups`).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Shaped

Groups = Shaped[np.ndarray, "n"]  # a value of each image, str
GroupMetric = Callable[[Int[np.ndarray, "*R n"], Int[np.ndarray, "n"], Groups], Float[np.ndarray, "*R"]]
Metric = Callable[[Int[np.ndarray, "*R n"], Int[np.ndarray, "n"], int], Float[np.ndarray, "*R"]]


def accuracy(predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], classes: int) -> Float[np.ndarray, "*R"]:
    """Top-1 accuracy in percent, micro-averaged over n images.

    Args:
        predicted: the classes that are predicted, of any number of runs.
        labels: the true ones.
        classes: how many there are.
    """
    return np.asarray(100.0 * np.sum(predicted == labels, axis=-1) / len(labels))


def worst_group(predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], groups: Groups) -> np.ndarray:
    """The lowest of `group_accuracies` of each run, as Waterbirds' results have it (Sagawa et al., 2020)."""
    return np.asarray(group_accuracies(predicted, labels, groups).min(axis=-1))


def group_mean(predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], groups: Groups) -> np.ndarray:
    """The mean of `group_accuracies` of each run: every group counts alike, whatever its size."""
    return np.asarray(group_accuracies(predicted, labels, groups).mean(axis=-1))


def group_accuracies(
    predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], groups: Groups
) -> Float[np.ndarray, "*R G"]:
    """Accuracy in percent on each group: the images of one class and one value of `groups`; empty ones are left out."""
    _, values = np.unique(groups, return_inverse=True)
    _, members = np.unique(np.stack([labels, values]), axis=1, return_inverse=True)
    members = members.reshape(-1)
    right = predicted == labels
    return np.stack([100.0 * right[..., members == g].mean(axis=-1) for g in range(members.max() + 1)], axis=-1)


METRICS: dict[str, Metric] = {"accuracy": accuracy}  # the first is that of the tables
GROUP_METRICS: dict[str, GroupMetric] = {"worst_group": worst_group, "group_mean": group_mean}
MAIN = next(iter(METRICS))
