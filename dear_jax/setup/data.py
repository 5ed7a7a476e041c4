"""From a config to the plan of what is trained on and classified, and from the plan to classes and images."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import prompts, splits, templates
from dear_jax.data.class_set import FEW, WHOLE, ClassSet, Task
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.loading import Places, load_dataset, same_images
from dear_jax.data.protocols import PROTOCOLS, Protocol
from dear_jax.data.skipping import Checked, describe_classes
from dear_jax.errors import UserError
from dear_jax.files.workdir import DRAWN_SPLITS, Workdir
from dear_jax.setup import ranges, values


@dataclasses.dataclass(frozen=True)
class DataPlan:
    """What is trained on and what is classified: keys of `config.data`, `.seeds`, `.protocol` and `.eval`."""

    dataset: str  # a row of data/datasets.py
    places: Places
    template: str  # empty: the data set's own
    shots: int
    seeds: tuple[int, ...]
    batch_size: int  # images per seed and step, where there are as many
    protocol: Protocol
    targets: tuple[str, ...]  # data sets that a protocol with `transfers` also measures on
    measured_split: str = "test"  # whose images are measured on: test | val


def read(config: ConfigDict) -> DataPlan:
    """The plan of a config."""
    data = config.data
    return DataPlan(
        data.dataset,
        values.read(Places, data),
        data.template,
        data.shots,
        tuple(config.seeds),
        config.train.batch_size,
        PROTOCOLS[config.protocol],
        tuple(config.eval.datasets),
        config.eval.split,
    )


def check(config: ConfigDict) -> None:
    """Open the data set of a config whose other keys may be wrong, and make its prompts.

    Raises:
        UserError: what is wrong with the data.
    """
    read_here = ("protocol", "data.source", "data.root", "data.splits", "data.split_seed")
    if not ranges.problems(config, read_here):  # which are answered elsewhere
        plan = read(config)
        class_prompts(plan, open_dataset(plan))


def load_task(plan: DataPlan, backbone: Backbone, files: Workdir | None = None) -> Task:
    """The few-shot draws and the class sets of a protocol and data set (methods/dear section 5).

    CoOp's draw is over all classes; base-to-new then keeps the base half. Splits that had to be drawn are kept in
    `files`, for a second start.
    """
    return make_task(plan, open_dataset(plan, files), backbone)


def make_task(plan: DataPlan, dataset: ImageDataset, backbone: Backbone) -> Task:
    """The same of an open data set.

    Raises:
        UserError: no training images; a prompt that cannot be read.
    """
    if not len(dataset.train):
        raise UserError(f"{dataset.name} has test images only: training needs a data set with training images.")
    _report_short_classes(dataset, plan.shots)
    kept = next(iter(plan.protocol.class_sets(dataset).values()))
    drawn = [_draw(dataset, plan.shots, seed, kept) for seed in plan.seeds]
    readable, skipped = _measured(plan, dataset), dict[str, Any]()
    if plan.places.skip_bad:
        readable, drawn, skipped = _skip_bad(readable, drawn)
    train = tuple(dataset.train.subset(indices).keep_classes(kept) for indices in drawn)
    classes, data = _class_sets(plan, backbone, readable, skipped)
    validation = functools.cache(functools.partial(_validation, dataset, plan, kept, drawn))
    return Task(train, classes, data, min(plan.batch_size, len(train[0])), validation)


def load_classes(
    plan: DataPlan, backbone: Backbone, files: Workdir | None = None
) -> tuple[dict[str, ClassSet], dict[str, Any]]:
    """The class sets of a protocol and data set, and the data's notes: what an evaluation needs."""
    dataset = _measured(plan, open_dataset(plan, files))
    skipped: dict[str, Any] = {}
    if plan.places.skip_bad:
        dataset, _, skipped = _skip_bad(dataset, [])
    return _class_sets(plan, backbone, dataset, skipped)


def _class_sets(
    plan: DataPlan, backbone: Backbone, dataset: ImageDataset, skipped: Mapping[str, Any]
) -> tuple[dict[str, ClassSet], dict[str, Any]]:
    """What is classified, and on which images: of the data set, and of those that the protocol transfers to."""
    check_names(plan, dataset, backbone)
    classes = {
        name: _class_set(dataset.keep_classes(labels), *_templates(plan.template, dataset), backbone)
        for name, labels in plan.protocol.class_sets(dataset).items()
    }
    data = dict(dataset.notes) | ({"skipped": dict(skipped)} if skipped else {})
    if plan.protocol.transfers:
        data["targets"] = {}
        for name in plan.targets:
            target = _measured(plan, load_dataset(name, plan.places))
            data["targets"][name] = dict(target.notes)
            if plan.places.skip_bad:
                target, _, data["targets"][name]["skipped"] = _skip_bad(target, [])
            # A prompt that was asked for is the trained data set's; an ensemble is each data set's own.
            asked = plan.template if plan.template == templates.ENSEMBLE else ""
            check_names(dataclasses.replace(plan, template=asked), target, backbone)
            classes[name] = _class_set(target, *_templates(asked, target), backbone)
    return classes, data


def _measured(plan: DataPlan, dataset: ImageDataset) -> ImageDataset:
    """The data set with the images to measure on as its `test`.

    Raises:
        UserError: no validation images, or none but the test's, where they are asked for.
    """
    if plan.measured_split == "test":
        return dataset
    if not len(dataset.val) or same_images(dataset.val, dataset.test):
        found = "its validation images are its test images" if len(dataset.val) else "it has none"
        raise UserError(
            f"config.eval.split=val measures on the validation images of {dataset.name}, and {found}. Leave "
            "config.eval.split out, or choose settings by --config.job=select, which holds training images out."
        )
    remark = "Measured on validation images (config.eval.split=val): not comparable with published tables."
    notes = {**dataset.notes, "measured_on": "val", "comparable": False, "remark": remark}
    return dataclasses.replace(dataset, test=dataset.val, notes=notes)


def _templates(asked: str, dataset: ImageDataset) -> tuple[str, tuple[str, ...]]:
    """The template that a method's text tower reads, and those of plain CLIP: the same, or an ensemble beside it."""
    found = templates.find(asked, dataset.name, dataset.template)
    return (asked if "{}" in asked else dataset.template), found


def open_dataset(plan: DataPlan, files: Workdir | None = None) -> ImageDataset:
    """The data set of a plan; splits that had to be drawn are kept in `files`, for a second start."""
    if files is None:
        return load_dataset(plan.dataset, plan.places)
    kept = files.read_json(DRAWN_SPLITS) if (files.path / DRAWN_SPLITS).exists() else None
    dataset = load_dataset(plan.dataset, plan.places, kept)
    if dataset.drawn_splits and kept is None:
        files.write_json(DRAWN_SPLITS, dataset.drawn_splits)
    return dataset


def class_prompts(plan: DataPlan, dataset: ImageDataset) -> list[str]:
    """The prompts of all classes of a data set, under the plan's template or its own."""
    template, _ = _templates(plan.template, dataset)
    return prompts.prompts(dataset.class_names, template)


def check_names(plan: DataPlan, dataset: ImageDataset, backbone: Backbone) -> None:
    """Refuse classes that no text tells apart, unless the data set is known to have them, as ImageNet.

    Raises:
        UserError: the pairs; or a prompt that cannot be read.
    """
    if dataset.distinct_names:
        prompts.check_distinct(dataset.class_names, backbone.tokenizer(class_prompts(plan, dataset)))


def _draw(dataset: ImageDataset, shots: int, seed: int, kept: Sequence[int]) -> np.ndarray:
    drawn, _ = splits.few_shot(dataset.train.labels, dataset.val.labels, shots, seed)
    return drawn[np.isin(dataset.train.labels[drawn], kept)]


def _validation(
    dataset: ImageDataset, plan: DataPlan, kept: Sequence[int], drawn: Sequence[np.ndarray], which: str
) -> tuple[ImageSplit, ...]:
    """Of each seed, none of them a test image.

    Where there are no others, a draw takes training images that are not trained on, as LP++'s official code does.
    """
    val = dataset.val
    if same_images(val, dataset.test):
        val = val.subset([])

    def keep(split: ImageSplit) -> ImageSplit:
        split = split.keep_classes(kept)
        return Checked(split).readable() if plan.places.skip_bad else split

    def draw(seed: int, trained_on: np.ndarray) -> ImageSplit:
        split = val if len(val) else dataset.train.subset(np.setdiff1d(np.arange(len(dataset.train)), trained_on))
        count = None if which == FEW else plan.shots
        _, indices = splits.few_shot(dataset.train.labels, split.labels, plan.shots, seed, count)
        return keep(split.subset(indices))

    return (keep(val),) * len(plan.seeds) if which == WHOLE else tuple(map(draw, plan.seeds, drawn))


def _skip_bad(
    dataset: ImageDataset, drawn: Sequence[np.ndarray]
) -> tuple[ImageDataset, list[np.ndarray], dict[str, Any]]:
    """Without the images that cannot be read: the data set, the draws, and what was left out."""
    print("Reading every image once, for config.data.skip_bad ...", flush=True)
    train, test = Checked(dataset.train), Checked(dataset.test)
    redrawn = [train.redraw(indices, dataset.class_names) for indices in drawn]
    readable = dataclasses.replace(dataset, test=test.readable())
    reasons = sorted({*train.bad.values(), *test.bad.values()})
    lost = sorted(set(dataset.test.labels.tolist()) - set(readable.test.labels.tolist()))
    if lost:
        whys = [why for index, why in test.bad.items() if dataset.test.labels[index] in lost]
        raise UserError(
            f"No test image of {describe_classes(lost, dataset.class_names)} can be read: {' '.join(whys[:10])} Add "
            "images, or take these classes away."
        )
    if reasons:
        print(
            f"Left out {len(train.bad)} training and {len(test.bad)} test images; results.json lists them.", flush=True
        )
    return readable, redrawn, {"train": len(train.bad), "test": len(test.bad), "images": reasons}


def _class_set(dataset: ImageDataset, template: str, ensemble: tuple[str, ...], backbone: Backbone) -> ClassSet:
    def texts(template: str) -> list[str]:
        return prompts.prompts(dataset.class_names, template)

    def tokenize(template: str) -> np.ndarray:
        return tokenizers.shorten(backbone.tokenizer(texts(template)))

    classes = ClassSet(
        dataset.class_names, dataset.name, template, ensemble, tuple(texts(template)), tokenize, dataset.test
    )
    for one in ensemble:
        texts(one)
    classes.token_ids  # noqa: B018 - what cannot be read is answered now
    return classes


def _report_short_classes(dataset: ImageDataset, shots: int) -> None:
    short = splits.short_classes(dataset.train.labels, shots)
    if short:
        names = ", ".join(dataset.class_names[label] for label in short)
        count = "1 class has" if len(short) == 1 else f"{len(short)} classes have"
        print(
            f"Warning: {count} fewer than {shots} training images and give all that they have: {names}.",
            flush=True,
        )
