"""The protocols of the field: which classes are trained on, what is told apart from what, and what is averaged.

`config.protocol` names a row of `PROTOCOLS` (methods/dear section 5).
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from dear_jax.data import splits
from dear_jax.data.image_dataset import ImageDataset

Row = Mapping[str, float]  # column -> accuracy in percent
ALL = "accuracy"  # the class set, and its column, where all classes are told apart
AVERAGE = "average"  # column: of the targets of a transfer, without the data set trained on


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a data set, and others beside it, become class sets and a row of results.

    Attributes:
        name: what `config.protocol` calls it.
        title: what tables call it.
        class_sets: the labels of each class set of a data set, the one trained on first.
        columns: what a row has at least; one that transfers has one more for each data set.
        follows: the columns of a row that follow from its accuracies.
        sets: how many class sets of about equal size a data set's classes are shared out to.
        transfers: whether adapters are also measured on other data sets (`config.eval.datasets`).
        shots: whether its tables have a column for each number of shots.
    """

    name: str
    title: str
    class_sets: Callable[[ImageDataset], dict[str, Sequence[int]]]
    columns: tuple[str, ...]
    follows: Callable[[Row], Row]
    sets: int = 1
    transfers: bool = False
    shots: bool = False

    def complete(self, row: Row) -> dict[str, float]:
        """A row of accuracies with the columns that follow from them."""
        return {**row, **self.follows(row)}


def harmonic_mean(base: float, new: float) -> float:
    """HM = 2 base new / (base + new) of two accuracies in percent; 0 where both are 0."""
    return 2 * base * new / (base + new) if base + new else 0.0


def summarize(rows: Sequence[Row]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and population standard deviation over seeds, per column; HM's mean is the HM of the mean accuracies.

    A table's average HM is that of the averaged accuracies (CLIP's published 71.70, not 71.59).
    """
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    std = {key: float(np.std([row[key] for row in rows])) for key in rows[0]}
    if "hm" in mean:
        mean["hm"] = harmonic_mean(mean["base"], mean["new"])
    return mean, std


def _halves(dataset: ImageDataset) -> dict[str, Sequence[int]]:
    labels = dataset.train.labels if len(dataset.train) else dataset.test.labels
    return dict(zip(("base", "new"), splits.base_new(labels), strict=True))


def _all_classes(dataset: ImageDataset) -> dict[str, Sequence[int]]:
    return {ALL: range(len(dataset.class_names))}


def _by_name(dataset: ImageDataset) -> dict[str, Sequence[int]]:
    return {dataset.name: range(len(dataset.class_names))}


def _hm(row: Row) -> Row:
    return {"hm": harmonic_mean(row["base"], row["new"])}


def _average(row: Row) -> Row:
    targets = list(row.values())[1:]
    return {AVERAGE: sum(targets) / len(targets)} if targets else {}


def _nothing(row: Row) -> Row:
    return {}


def _transfer(name: str, title: str) -> Protocol:
    return Protocol(name, title, _by_name, (AVERAGE,), _average, transfers=True)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("base2new", "Base-to-new generalization", _halves, ("base", "new", "hm"), _hm, sets=2),
        Protocol("few_shot", "Few-shot classification", _all_classes, (ALL,), _nothing, shots=True),
        _transfer("cross_dataset", "Cross-dataset transfer"),
        _transfer("domain_generalization", "Domain generalization"),
    )
}
