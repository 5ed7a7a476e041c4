"""From a config to the plan of what is trained on and classified, and from the plan to classes and images."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import prompts, shots_file, splits, templates
from dear_jax.data.class_set import FEW, WHOLE, ClassSet, Task
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.loading import Places, load_dataset, same_images
from dear_jax.data.protocols import PROTOCOLS, Protocol
from dear_jax.data.shots_file import Draw
from dear_jax.data.skipping import Checked, describe_classes
from dear_jax.errors import UserError
from dear_jax.files.workdir import DRAWN_SPLITS, Workdir
from dear_jax.parallel import processes
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
    shots_file: str = ""  # of the draws, read or written; empty: none


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
        data.shots_file,
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
    `files`, for a second start; without it, as in a dry run, no file of draws is written.
    """
    return make_task(plan, open_dataset(plan, files), backbone, writes=files is not None)


def make_task(plan: DataPlan, dataset: ImageDataset, backbone: Backbone, writes: bool = False) -> Task:
    """The same of an open data set; `writes` whether draws that no file has yet go into `plan.shots_file`.

    Raises:
        UserError: no training images; a prompt that cannot be read.
    """
    if not len(dataset.train):
        raise UserError(f"{dataset.name} has test images only: training needs a data set with training images.")
    _report_short_classes(dataset, plan.shots)
    kept = next(iter(plan.protocol.class_sets(dataset).values()))
    draws, note = draw_shots(plan, dataset, writes)
    drawn = [draw.train[np.isin(dataset.train.labels[draw.train], kept)] for draw in draws]
    readable, skipped = _measured(plan, dataset), dict[str, Any]()
    if plan.places.skip_bad:
        readable, drawn, skipped = _skip_bad(readable, drawn)
    train = tuple(dataset.train.subset(indices).keep_classes(kept) for indices in drawn)
    classes, data = _class_sets(plan, backbone, readable, skipped)
    data |= {"shots_file": note} if note else {}
    validation = functools.cache(functools.partial(_validation, dataset, plan, kept, drawn, draws))
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


def load_training_images(plan: DataPlan, files: Workdir | None = None) -> ImageSplit:
    """All training images of the protocol's first class set, labelled as there."""
    dataset = open_dataset(plan, files)
    return dataset.train.keep_classes(next(iter(plan.protocol.class_sets(dataset).values())))


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


def draw_shots(plan: DataPlan, dataset: ImageDataset, writes: bool = False) -> tuple[list[Draw], dict[str, Any]]:
    """The draw of every seed over all classes, and the results' note on the file that it is in, if there is one.

    Raises:
        UserError: the file of draws does not fit; the draws of two seeds have other numbers of images.
    """
    val = _validation_images(dataset)
    by_seed = {
        seed: Draw(*splits.few_shot(dataset.train.labels, val.labels, plan.shots, seed)) for seed in plan.seeds
    }
    if not plan.shots_file:
        return list(by_seed.values()), {}
    kept = {seed: shots_file.read(plan.shots_file, dataset, val, plan.shots, seed) for seed in plan.seeds}
    draws = {seed: kept[seed] or by_seed[seed] for seed in plan.seeds}
    fresh = {seed: draw for seed, draw in by_seed.items() if kept[seed] is None}
    _check_alike(draws, dataset)
    if fresh and writes and processes.is_first():
        shots_file.write(plan.shots_file, dataset, val, plan.shots, fresh)
    print(f"The draw of training images {'goes to' if fresh else 'is that of'} {plan.shots_file}.", flush=True)
    same = all(np.array_equal(np.sort(draws[seed].train), np.sort(by_seed[seed].train)) for seed in plan.seeds)
    return list(draws.values()), {
        "file": plan.shots_file,
        "images_sha256": [dataset.train.subset(draw.train).names_sha256() for draw in draws.values()],
        "drawn_by_seed": same,
    }


def _check_alike(draws: Mapping[int, Draw], dataset: ImageDataset) -> None:
    """Refuse seeds that cannot be trained together: their draws have other numbers of images of a class."""
    classes = len(dataset.class_names)
    counts = np.stack([np.bincount(dataset.train.labels[draw.train], minlength=classes) for draw in draws.values()])
    differ = np.flatnonzero((counts != counts[0]).any(axis=0)).tolist()
    if differ:
        found = ", ".join(f"{n} of seed {seed}" for seed, n in zip(draws, counts[:, differ[0]].tolist(), strict=True))
        raise UserError(
            "config.data.shots_file: the draws of seeds that are trained together need as many images of each class; "
            f"of {describe_classes(differ, dataset.class_names)} they have {found}. Train them one by one, with "
            "--config.seeds=SEED."
        )


def _validation_images(dataset: ImageDataset) -> ImageSplit:
    """The validation split, of which none is left where it is the test's, as ImageNet's."""
    return dataset.val.subset([]) if same_images(dataset.val, dataset.test) else dataset.val


def _validation(
    dataset: ImageDataset,
    plan: DataPlan,
    kept: Sequence[int],
    drawn: Sequence[np.ndarray],
    draws: Sequence[Draw],
    which: str,
) -> tuple[ImageSplit, ...]:
    """Of each seed, none of them a test image.

    Where there are no others, a draw takes training images that are not trained on, as LP++'s official code does.
    """
    val = _validation_images(dataset)

    def keep(split: ImageSplit) -> ImageSplit:
        split = split.keep_classes(kept)
        return Checked(split).readable() if plan.places.skip_bad else split

    def draw(seed: int, trained_on: np.ndarray, listed: Draw) -> ImageSplit:
        if which == FEW and plan.shots_file and len(val) and len(listed.val):
            return keep(val.subset(listed.val))
        split = val if len(val) else dataset.train.subset(np.setdiff1d(np.arange(len(dataset.train)), trained_on))
        count = None if which == FEW else plan.shots
        _, indices = splits.few_shot(dataset.train.labels, split.labels, plan.shots, seed, count)
        return keep(split.subset(indices))

    return (keep(val),) * len(plan.seeds) if which == WHOLE else tuple(map(draw, plan.seeds, drawn, draws))


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
