"""Which images and which classes: the few-shot draw and the base/new halves of the CoOp family.

In: integer labels of a data set's train and val splits. Out: indices and lists of labels, for
`ImageSplit.subset` and `keep_classes`. A published few-shot number is comparable only where the
very same images were drawn, so the procedure is CoOp's to the letter: draw over *all* classes
first, only then keep the base or the new half.
"""

import random
from collections.abc import Sequence

import numpy as np

from dear_jax.errors import UserError, count

MAX_VAL_SHOTS = 4  # CoOp draws min(shots, 4) validation images per class
SHARES = (0.5, 0.2)  # of a class for train and val where a data set has no splits; the rest is for testing. CoOp's


def few_shot(
    train_labels: Sequence[int] | np.ndarray,
    val_labels: Sequence[int] | np.ndarray,
    shots: int,
    seed: int,
    val_shots: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws `shots` training images per class: (train_indices, val_indices), in drawing order.

    One `random.Random(seed)` serves train and then val; classes come in order of first appearance;
    a class with fewer images than asked for gives them all (`short_classes` tells which). Of val, `val_shots` are drawn
    per class; None: as CoOp does.
    """
    if shots < 1:
        raise UserError(f"config.data.shots: expected 1 or more training images per class, found {shots}.")
    generator = random.Random(seed)
    train = _draw(train_labels, shots, generator)
    val = _draw(val_labels, min(shots, MAX_VAL_SHOTS) if val_shots is None else val_shots, generator)
    return train, val


def short_classes(train_labels: Sequence[int] | np.ndarray, shots: int) -> list[int]:
    """The labels, in increasing order, that have some but fewer than `shots` images."""
    labels, counts = np.unique(np.asarray(train_labels, dtype=np.int64), return_counts=True)
    return labels[counts < shots].tolist()


def base_new(train_labels: Sequence[int] | np.ndarray) -> tuple[list[int], list[int]]:
    """The base labels, which are the ceil(n / 2) lowest of train's n labels, and the new ones."""
    labels = np.unique(np.asarray(train_labels, dtype=np.int64)).tolist()
    if len(labels) < 2:
        raise UserError(
            f"Base-to-new needs at least two classes, one to train on, one to generalize to; the "
            f"training images have {len(labels)}. Add classes to the data set, or choose another "
            f"data.dataset."
        )
    middle = (len(labels) + 1) // 2
    return labels[:middle], labels[middle:]


def random_splits(
    labels: Sequence[int] | np.ndarray,
    seed: int,
    class_names: Sequence[str],
) -> dict[str, list[int]]:
    """Draws train, val and test of a data set without splits: `SHARES` of each class, one image each at least.

    Returns:
        {"train": indices, "val": indices, "test": indices}, class after class.
    """
    by_label = _group(labels)
    small = [class_names[label] for label, indices in by_label.items() if len(indices) < 2]
    if small:
        raise UserError(
            f"{count(len(small), 'class has', 'classes have')} a single image, which cannot be split for training and "
            f"testing: {', '.join(small[:10])}. Add images, or leave them out."
        )
    generator = random.Random(seed)
    drawn: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for label in sorted(by_label):
        shuffled = generator.sample(by_label[label], len(by_label[label]))
        train = max(1, round(len(shuffled) * SHARES[0]))
        val = min(round(len(shuffled) * SHARES[1]), len(shuffled) - train - 1)
        drawn["train"] += shuffled[:train]
        drawn["val"] += shuffled[train : train + val]
        drawn["test"] += shuffled[train + val :]
    return drawn


def _draw(labels: Sequence[int] | np.ndarray, shots: int, generator: random.Random) -> np.ndarray:
    drawn: list[int] = []
    for indices in _group(labels).values():
        drawn += generator.sample(indices, shots) if len(indices) >= shots else indices
    return np.array(drawn, dtype=np.int64)


def _group(labels: Sequence[int] | np.ndarray) -> dict[int, list[int]]:
    """Label -> its indices; a dict keeps the order of first appearance."""
    by_label: dict[int, list[int]] = {}
    for index, label in enumerate(np.asarray(labels, dtype=np.int64).tolist()):
        by_label.setdefault(label, []).append(index)
    return by_label
