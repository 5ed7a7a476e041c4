"""From a config to the classes and images of a job."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import prompts, splits
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.loading import Places, load_dataset
from dear_jax.data.skipping import Checked
from dear_jax.errors import UserError
from dear_jax.files.workdir import DRAWN_SPLITS, Workdir

TRANSFERS = ("cross_dataset", "domain_generalization")  # protocols that also evaluate on other data sets


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """Classes that are told apart from each other, and their test images."""

    class_names: tuple[str, ...]
    template: str  # of the prompts, with one {} for the class name
    prompts: tuple[str, ...]  # what the text tower reads, one per class
    token_ids: np.ndarray  # int32 [C, T], cut to the longest prompt
    test: ImageSplit


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training run learns from and is measured on."""

    train: tuple[ImageSplit, ...]  # one few-shot draw per seed
    classes: dict[str, ClassSet]  # the first is the one trained on
    data: dict[str, Any]  # where images, names and splits come from, for results.json
    batch_size: int  # images per seed and step: the config's, or all images where there are fewer, as in Dassl

    @property
    def trained_on(self) -> ClassSet:
        """The classes of the training images."""
        return next(iter(self.classes.values()))


def load_task(config: ConfigDict, backbone: Backbone, files: Workdir | None = None) -> Task:
    """The few-shot draws and the class sets of the config's protocol and data set (methods/dear section 5).

    CoOp's draw is over all classes; base-to-new then keeps the base half. Splits that had to be drawn are kept in
    `files`, for a second start.
    """
    dataset = open_dataset(config, files)
    if not len(dataset.train):
        raise UserError(f"{dataset.name} has test images only: training needs a data set with training images.")
    _report_short_classes(dataset, config.data.shots)
    kept = next(iter(_label_sets(config, dataset).values()))
    drawn = [_draw(dataset, config.data.shots, seed, kept) for seed in config.seeds]
    skipped: dict[str, Any] = {}
    if config.data.skip_bad:
        dataset, drawn, skipped = _skip_bad(dataset, drawn)
    train = tuple(dataset.train.subset(indices).keep_classes(kept) for indices in drawn)
    classes, data = _class_sets(config, backbone, dataset, skipped)
    return Task(train, classes, data, min(config.train.batch_size, len(train[0])))


def load_classes(
    config: ConfigDict, backbone: Backbone, files: Workdir | None = None
) -> tuple[dict[str, ClassSet], dict[str, Any]]:
    """The class sets of the config's protocol and data set, and the data's notes: what an evaluation needs."""
    dataset = open_dataset(config, files)
    skipped: dict[str, Any] = {}
    if config.data.skip_bad:
        dataset, _, skipped = _skip_bad(dataset, [])
    return _class_sets(config, backbone, dataset, skipped)


def _label_sets(config: ConfigDict, dataset: ImageDataset) -> dict[str, Sequence[int]]:
    """The labels of each class set of the data set, the one trained on first."""
    if config.protocol == "base2new":
        labels = dataset.train.labels if len(dataset.train) else dataset.test.labels
        return dict(zip(("base", "new"), splits.base_new(labels), strict=True))
    name = "accuracy" if config.protocol == "few_shot" else dataset.name
    return {name: range(len(dataset.class_names))}


def _class_sets(
    config: ConfigDict, backbone: Backbone, dataset: ImageDataset, skipped: Mapping[str, Any]
) -> tuple[dict[str, ClassSet], dict[str, Any]]:
    """What is classified, and on which images: of the data set, and of those that the protocol transfers to."""
    template = config.data.template or dataset.template
    classes = {
        name: _class_set(dataset.keep_classes(labels), template, backbone)
        for name, labels in _label_sets(config, dataset).items()
    }
    data = dict(dataset.notes) | ({"skipped": dict(skipped)} if skipped else {})
    if config.protocol in TRANSFERS:
        data["targets"] = {}
        for name in config.eval.datasets:
            target = load_dataset(name, places_of(config))
            data["targets"][name] = dict(target.notes)
            if config.data.skip_bad:
                target, _, data["targets"][name]["skipped"] = _skip_bad(target, [])
            classes[name] = _class_set(target, target.template, backbone)
    return classes, data


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


def _draw(dataset: ImageDataset, shots: int, seed: int, kept: Sequence[int]) -> np.ndarray:
    drawn, _ = splits.few_shot(dataset.train.labels, dataset.val.labels, shots, seed)
    return drawn[np.isin(dataset.train.labels[drawn], kept)]


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
    token_ids = tokenizers.shorten(backbone.tokenizer(texts))
    return ClassSet(dataset.class_names, template, tuple(texts), token_ids, dataset.test)


def _report_short_classes(dataset: ImageDataset, shots: int) -> None:
    short = splits.short_classes(dataset.train.labels, shots)
    if short:
        names = ", ".join(dataset.class_names[label] for label in short)
        count = "1 class has" if len(short) == 1 else f"{len(short)} classes have"
        print(
            f"Warning: {count} fewer than {shots} training images and give all that they have: {names}.",
            flush=True,
        )
