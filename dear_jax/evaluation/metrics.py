"""What predictions are worth: a function per metric, a row in `METRICS`, `CONFIDENCE_METRICS` or `GROUP_METRICS`.

Tables show the first of `METRICS`; results.json and metrics.jsonl have every one of them. Those of
`CONFIDENCE_METRICS` also look at the probabilities of what is predicted, those of `GROUP_METRICS` are of class sets
alone whose images come in groups (`ImageSplit.groups`).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int, Shaped

Groups = Shaped[np.ndarray, "n"]  # a value of each image, str
GroupMetric = Callable[[Int[np.ndarray, "*R n"], Int[np.ndarray, "n"], Groups], Float[np.ndarray, "*R"]]
Metric = Callable[[Int[np.ndarray, "*R n"], Int[np.ndarray, "n"], int], Float[np.ndarray, "*R"]]
ConfidenceMetric = Callable[
    [Int[np.ndarray, "*R n"], Float[np.ndarray, "*R n"], Int[np.ndarray, "n"]], Float[np.ndarray, "*R"]
]
BINS = 15  # of the calibration error


def accuracy(predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], classes: int) -> Float[np.ndarray, "*R"]:
    """Top-1 accuracy in percent, micro-averaged over n images.

    Args:
        predicted: the classes that are predicted, of any number of runs.
        labels: the true ones.
        classes: how many there are.
    """
    return np.asarray(100.0 * np.sum(predicted == labels, axis=-1) / len(labels))


def macro_f1(predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], classes: int) -> Float[np.ndarray, "*R"]:
    """The mean of the classes' F1 = 2 TP / (2 TP + FP + FN), in percent.

    The mean is over the classes that have images, as in Dassl (`f1_score(..., average="macro")` over the true labels);
    a class that is never predicted has 0. Arguments as those of `accuracy`.
    """
    images = np.bincount(labels, minlength=classes)
    there = images > 0

    def of_run(run: Int[np.ndarray, "n"]) -> float:
        right = np.bincount(labels[run == labels], minlength=classes)
        counted = images + np.bincount(run, minlength=classes)  # TP + FN and TP + FP
        return float(np.mean(200.0 * right[there] / counted[there]))

    return _each(of_run, predicted)


def class_accuracies(
    predicted: Int[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"], classes: int
) -> Float[np.ndarray, "*R C"]:
    """Accuracy in percent on the images of each class; NaN where it has none. Arguments as those of `accuracy`."""
    images = np.bincount(labels, minlength=classes)

    def of_run(run: Int[np.ndarray, "n"]) -> Float[np.ndarray, "C"]:
        right = np.bincount(labels[run == labels], minlength=classes)
        return np.where(images > 0, 100.0 * right / np.maximum(images, 1), np.nan)

    return _each(of_run, predicted, classes)


def calibration_error(
    predicted: Int[np.ndarray, "*R n"], probabilities: Float[np.ndarray, "*R n"], labels: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "*R"]:
    """Expected calibration error in percent (Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3).

    The n images are put into `BINS` bins of equal width by the probability p of what is predicted, bin b holding
    (b / BINS, (b + 1) / BINS]. With acc(b) the share of right predictions in a bin of n_b images, and conf(b) the mean
    of p there, it is 100 sum_b n_b / n |acc(b) - conf(b)|. It has two decimals: those that would follow depend on how
    sums were rounded.

    Args:
        predicted: the classes that are predicted, of any number of runs.
        probabilities: of these, in [0, 1].
        labels: the true ones.
    """
    bins = np.clip(np.ceil(probabilities * BINS).astype(int) - 1, 0, BINS - 1)
    apart = (predicted == labels) - probabilities.astype(np.float64)
    runs = zip(bins.reshape(-1, len(labels)), apart.reshape(-1, len(labels)), strict=True)
    sums = [np.abs(np.bincount(places, distances, BINS)).sum() for places, distances in runs]
    return np.asarray(np.round(100.0 * np.array(sums).reshape(predicted.shape[:-1]) / len(labels), 2))


def _each(of_run: Callable[[np.ndarray], object], predicted: Int[np.ndarray, "*R n"], *shape: int) -> np.ndarray:
    """A function of every run, of which there may be none, with results of a shape."""
    *axes, images = predicted.shape
    return np.array([of_run(run) for run in predicted.reshape(-1, images)], float).reshape((*axes, *shape))


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


METRICS: dict[str, Metric] = {"accuracy": accuracy, "macro_f1": macro_f1}  # the first is that of the tables
CONFIDENCE_METRICS: dict[str, ConfidenceMetric] = {"calibration_error": calibration_error}
GROUP_METRICS: dict[str, GroupMetric] = {"worst_group": worst_group, "group_mean": group_mean}
MAIN = next(iter(METRICS))
