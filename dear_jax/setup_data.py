"""From a config to the classes and images of a job."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.weights import Backbone
from dear_jax.data import prompts, splits
from dear_jax.data.loading import Places, load_dataset
from dear_jax.data.skipping import Checked
from dear_jax.data.sources import ImageDataset, ImageSplit
from dear_jax.errors import UserError
from dear_jax.workdir import Workdir

DRAWN_SPLITS = "splits.json"  # in the workdir, where splits had to be drawn


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """Classes that are told apart from each other, and their test images."""

    class_names: tuple[str, ...]
    prompts: tuple[str, ...]  # what the text tower reads, one per class
    token_ids: np.ndarray  # int32 [C, T], cut to the longest prompt
    test: ImageSplit


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training run learns from and is measured on."""

    train: tuple[ImageSplit, ...]  # one few-shot draw per seed
    classes: dict[str, ClassSet]  # the first is the one trained on
    data: dict[str, Any]  # where images, names and splits come from, for results.json

    @property
    def trained_on(self) -> ClassSet:
        """The classes of the training images."""
        return next(iter(self.classes.values()))


def load_task(config: ConfigDict, backbone: Backbone, files: Workdir | None = None) -> Task:
    """The few-shot draws and the class sets of the config's protocol and data set.

    Base-to-new (METHOD.md section 5): CoOp's draw over all classes, then the base half for training; base and new
    are each classified among their own classes. Splits that had to be drawn are kept in `files`, for a second start.
    """
    dataset = open_dataset(config, files)
    if not len(dataset.train):
        raise UserError(f"{dataset.name} has test images only: base-to-new needs one to train on.")
    _report_short_classes(dataset, config.data.shots)
    halves = dict(zip(("base", "new"), splits.base_new(dataset.train.labels), strict=True))
    drawn = [_draw_base(dataset, config.data.shots, seed, halves["base"]) for seed in config.seeds]
    data = dict(dataset.notes)
    if config.data.skip_bad:
        dataset, drawn, data["skipped"] = _skip_bad(dataset, drawn)
    train = tuple(dataset.train.subset(indices).keep_classes(halves["base"]) for indices in drawn)
    template = config.data.template or dataset.template
    classes = {name: _class_set(dataset.keep_classes(labels), template, backbone) for name, labels in halves.items()}
    return Task(train, classes, data)


def open_dataset(config: ConfigDict, files: Workdir | None = None) -> ImageDataset:
    """The data set that the config names; splits that had to be drawn are kept in `files`, for a second start."""
    places = places_of(config)
    if files is None:
        return load_dataset(config.data.dataset, places)
    kept = files.read_json(DRAWN_SPLITS) if (files.path / DRAWN_SPLITS).exists() else None
    dataset = load_dataset(config.data.dataset, places, kept)
    if dataset.drawn_splits and kept is None:
        files.write_json(DRAWN_SPLITS, dataset.drawn_splits)
    return dataset


def places_of(config: ConfigDict) -> Places:
    """Where the config says that the images are."""
    data = config.data
    return Places(data.source, data.root, data.splits, data.split_seed, data.skip_bad, data.exif)


def _draw_base(dataset: ImageDataset, shots: int, seed: int, base: Sequence[int]) -> np.ndarray:
    drawn, _ = splits.few_shot(dataset.train.labels, dataset.val.labels, shots, seed)
    return drawn[np.isin(dataset.train.labels[drawn], base)]


def _skip_bad(
    dataset: ImageDataset, drawn: Sequence[np.ndarray]
) -> tuple[ImageDataset, list[np.ndarray], dict[str, Any]]:
    """Without the images that cannot be read: the data set, the draws, and what was left out."""
    print("Reading every image once, for config.data.skip_bad ...", flush=True)
    train, test = Checked(dataset.train), Checked(dataset.test)
    redrawn = [train.redraw(indices) for indices in drawn]
    readable = dataclasses.replace(dataset, test=test.readable())
    reasons = sorted({*train.bad.values(), *test.bad.values()})
    if reasons:
        print(
            f"Left out {len(train.bad)} training and {len(test.bad)} test images; results.json lists them.", flush=True
        )
    return readable, redrawn, {"train": len(train.bad), "test": len(test.bad), "images": reasons}


def _class_set(dataset: ImageDataset, template: str, backbone: Backbone) -> ClassSet:
    texts = prompts.prompts(dataset.class_names, template, dataset.distinct_names)
    return ClassSet(dataset.class_names, tuple(texts), tokenizers.shorten(backbone.tokenizer(texts)), dataset.test)


def _report_short_classes(dataset: ImageDataset, shots: int) -> None:
    short = splits.short_classes(dataset.train.labels, shots)
    if short:
        names = ", ".join(dataset.class_names[label] for label in short)
        print(
            f"Warning: {len(short)} classes have fewer than {shots} training images and give all that they have: "
            f"{names}.",
            flush=True,
        )
