"""Tasks like the one to come, from what may be trained on alone: classes and images are left out and measured.

In: a data set, the labels that are trained on. Out: folds, each a data set whose `test` are images held out of training
and validation, and the classes that are trained on and measured in it. Test images are never loaded.

Leave-classes-out splits the training classes into two halves, pseudo-base and pseudo-new: methods trained on the one
are measured on held-out images of both. Its halves come in pairs, each half once trained on, so that every class counts
as often on either side.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dear_jax.data.image_dataset import ImageDataset
from dear_jax.data.loading import same_images
from dear_jax.data.protocols import PROTOCOLS, Protocol
from dear_jax.errors import UserError

SHARE = 4  # a class that has no other image holds out a part of its training images: one in so many, at least one


@dataclasses.dataclass(frozen=True)
class Fold:
    """A task within the training side of a data set.

    Attributes:
        dataset: `train` may be trained on, `val` is empty, `test` are the held-out images.
        protocol: which classes are trained on and measured; its columns are those of the row of a fold.
    """

    dataset: ImageDataset
    protocol: Protocol


def make_folds(dataset: ImageDataset, protocol: Protocol, shots: int, count: int, images: int, seed: int) -> list[Fold]:
    """Folds of the classes that a protocol trains on.

    Args:
        dataset: its test split is not looked at, but for which images validation shares with it.
        protocol: where all classes are known (`few_shot`), there is one fold with all of them; else leave-classes-out.
        shots: training images per class of a run; images beyond them may be held out.
        count: how many leave-classes-out folds, an even number.
        images: held-out images per class, at most.
        seed: of the draws of classes and images; no seed of a run has part in them.

    Raises:
        UserError: too few classes or images.
    """
    trained_on = list(next(iter(protocol.class_sets(dataset).values())))
    held_out = _hold_out(dataset, trained_on, shots, images, seed)
    if not leaves_classes_out(protocol):
        return [Fold(held_out, protocol)]
    if len(trained_on) < 4:
        raise UserError(
            f"config.job=select leaves half of the training classes out, and {dataset.name} has {len(trained_on)} of "
            "them: expected 4 or more. Give more classes, or --config.protocol=few_shot."
        )
    folds = []
    for pair in range(count // 2):
        order = np.random.default_rng([seed, pair]).permutation(trained_on)
        half = len(order) // 2  # of both folds of a pair, so that all folds have one shape
        for left, right in ((order[:half], order[half:]), (order[-half:], order[:-half])):
            sets: dict[str, Sequence[int]] = {"base": sorted(map(int, left)), "new": sorted(map(int, right))}
            row = dataclasses.replace(PROTOCOLS["base2new"], class_sets=_constant(sets))
            folds.append(Fold(held_out, row))
    return folds


def leaves_classes_out(protocol: Protocol) -> bool:
    """Whether what is trained under a protocol meets classes that it was not trained on."""
    return protocol.sets > 1 or protocol.transfers


def _constant(sets: dict[str, Sequence[int]]) -> Callable[[ImageDataset], dict[str, Sequence[int]]]:
    return lambda dataset: sets


def _hold_out(dataset: ImageDataset, labels: Sequence[int], shots: int, images: int, seed: int) -> ImageDataset:
    """The data set with held-out validation and training images for its `test`; they leave its `train`."""
    val = dataset.val.subset([]) if same_images(dataset.val, dataset.test) else dataset.val
    from_val, from_train, short = [], [], []
    for label in labels:
        generator = np.random.default_rng([seed, int(label)])
        own_val, own_train = (np.flatnonzero(split.labels == label) for split in (val, dataset.train))
        taken = generator.permutation(own_val)[:images]
        spare = min(images - len(taken), max(len(own_train) - shots, 0))
        if not len(taken) and not spare:
            spare = max(1, len(own_train) // SHARE) if len(own_train) > 1 else 0
        if not len(taken) and not spare:
            short.append(dataset.class_names[label])
        from_val.append(taken)
        from_train.append(generator.permutation(own_train)[:spare])
    if short:
        names = ", ".join(short[:10]) + (", ..." if len(short) > 10 else "")
        raise UserError(
            f"config.job=select measures on images that are not trained on, and {len(short)} of {len(labels)} classes "
            f"of {dataset.name} {'has' if len(short) == 1 else 'have'} a single training image and no validation "
            f"image: {names}. Give each another image."
        )
    held, kept = np.concatenate(from_train), np.arange(len(dataset.train))
    return dataclasses.replace(
        dataset,
        train=dataset.train.subset(np.setdiff1d(kept, held)),
        val=val.subset([]),
        test=val.subset(np.concatenate(from_val)) + dataset.train.subset(held),
    )
