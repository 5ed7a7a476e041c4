r"""Job: what the images of a user show, by what a run has learned.

    python -m dear_jax.main --config=configs/predict.py --config.run=WORKDIR --config.images='*.jpg' \
        --config.classes=cat,dog

run, images, class names -> probabilities -> predictions.csv, probabilities.csv and the screen; with
config.predict.explain also heat maps. Images that cannot be read are named in predictions.csv and at the end, with exit
code 2; the others are classified all the same. Where images lie in folders called after the classes, these are the
truth, and the accuracy is given.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import class_list, transforms, truth, twice, unlabelled
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError, count
from dear_jax.evaluation import explanation
from dear_jax.evaluation.classifier import Classifier, tokenize
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, describe_backbone, describe_run, describe_seeds
from dear_jax.methods.adapter_file import Trained
from dear_jax.parallel import agreement, processes
from dear_jax.report import heat_maps, predictions
from dear_jax.report.heat_maps import OfImage
from dear_jax.report.predictions import WHOLE, ZERO_SHOT
from dear_jax.report.text_tables import to_csv
from dear_jax.setup import runs
from dear_jax.setup.backbones import DTYPES
from dear_jax.setup.plans.predict import PredictionPlan, make_plan

__all__ = ["describe", "make_plan", "run"]


def run(plan: PredictionPlan, workdir: epath.Path) -> None:
    """Classify the plan's images among its classes.

    Raises:
        UserError: a bad run, class list or pattern; at the end, images that could not be read.
    """
    with processes.together():
        images = unlabelled.asked_for(plan.images, plan.exif)
        names = class_names(plan)
    with processes.open_workdir(plan.config, workdir) as (files, _):
        with processes.together():
            trained, backbone = runs.load_chosen(plan.run, "predict")
        seen = {"images": len(images), "names_sha256": images.names_sha256()}
        agreement.check_alike(plan.config.values, seen, backbone.fingerprint)
        classifier = Classifier(
            trained,
            backbone,
            names,
            template=plan.template,
            new_classes=plan.new_classes,
            dtype=plan.dtype,
            matmul_precision=plan.matmul_precision,
            batch_size=plan.batch_size,
            workers=plan.workers,
        )
        print(
            f"{count(len(images), 'image')}, {count(len(classifier.classes), 'class')}, prompt "
            f"{classifier.template!r}, adapter of {trained.dataset}, variant {trained.names[0]}, "
            f"{describe_seeds(trained.seeds)}.",
            flush=True,
        )
        if names is None and trained.other_classes:
            print(describe_partial(trained), flush=True)
        if plan.explain:
            classifier.check_explainable()
        known = twice.marked(images, trained.images)
        truths = truth.of_folders(images.names, unlabelled.top(plan.images), classifier.classes)
        bad = classify(classifier, images, files, plan, truths, known)
        print(f"All files of this run are in {files.path}.", flush=True)
    if bad:
        raise UserError(unlabelled.unreadable(bad, len(images)))


def class_names(plan: PredictionPlan) -> tuple[str, ...] | None:
    """The classes that the user gives; none: those that the run was trained on."""
    return class_list.parse(plan.classes) if plan.classes else None


def classify(
    classifier: Classifier,
    images: ImageSplit,
    files: Workdir,
    plan: PredictionPlan,
    truths: Sequence[str],
    known: Sequence[bool] | np.ndarray,
) -> list[str]:
    """Write and print what all N images are, in their order, and why.

    Args:
        classifier: what says it.
        images: the images.
        files: of the workdir.
        plan: of the job.
        truths: the class of each image, empty where it is not known; N.
        known: whether an image was trained on; N.

    Returns:
        Which images could not be read, and why.
    """
    opinions = (WHOLE, ZERO_SHOT, *classifier.paths)
    has_truth = any(truths)
    top = [predictions.header(opinions, *["truth"] * has_truth)]
    table = [["image", *classifier.classes]]
    labels: list[str] = []
    bad: list[str] = []
    right: list[np.ndarray] = []  # of each image whose truth is known, bool by opinion; and whether it was trained on
    explained: list[OfImage] = []
    wanted = plan.maps.count(len(images)) if plan.explain else 0
    for prediction, readable in classifier.stream(images, skip_bad=True, explained=wanted):
        for name, row, label, good, why in itertools.zip_longest(
            prediction.images, prediction.rows(), prediction.labels, readable, prediction.explanations
        ):
            place = len(top) - 1
            true = [truths[place]] * has_truth
            if not good:
                bad.append(images.problem(place))
                top.append(predictions.bad_row(name, opinions, bad[-1], *true))
                table.append([name, *[""] * len(classifier.classes)])
                continue
            top.append(predictions.row(name, classifier.classes, row, *true))
            table.append([name, *map(predictions.number, row[WHOLE])])
            labels.append(label)
            if truths[place]:
                index = classifier.classes.index(truths[place])
                right.append(np.array([*(row[one].argmax() == index for one in opinions), known[place]]))
            if why is not None and processes.is_first():
                picture = transforms.resize_and_crop(images.load(place), plan.maps.size)
                explained.append(OfImage(place + 1, name, picture, why))
            if len(labels) <= plan.shown:
                print(predictions.describe(name, classifier.classes, row), flush=True)
    files.write_text("predictions.csv", to_csv(top))
    files.write_text("probabilities.csv", to_csv(table))
    if len(labels) > plan.shown:
        print(f"... and {count(len(labels) - plan.shown, 'more image')} in predictions.csv.")
    if explained:
        _write_maps(classifier, explained, len(images) - wanted, files)
    if labels:
        print(f"Predicted: {predictions.summary(labels)}.")
    if right:
        _print_accuracies(opinions, np.array(right), len(labels))
    if sum(known):
        print(
            f"{count(int(sum(known)), 'image was', 'images were')} trained on (files of the same content): what is "
            "said of them tells nothing about others."
        )
    return bad


def _print_accuracies(opinions: Sequence[str], right: np.ndarray, images: int) -> None:
    """The accuracies of all opinions on the images whose truth is known; `right` is bool [K, opinions + trained on]."""
    said, known = right[:, :-1], right[:, -1]
    parts = {f"{len(said)} of {count(images, 'image')} in folders called after classes": said}
    if 0 < known.sum() < len(known):
        parts[f"the {count(int((~known).sum()), 'image')} of these not trained on"] = said[~known]
    for what, of in parts.items():
        print(f"Accuracy on {what}: {predictions.accuracies(dict(zip(opinions, of.T, strict=True)))}.")


def describe_partial(trained: Trained) -> str:
    """That a run knows some classes of its data set only, and how to tell others apart."""
    others, known = trained.other_classes, len(trained.class_names)
    return (
        f"The run was trained on {known} of the {known + len(others)} classes of {trained.dataset}, and these alone "
        "are told apart here. config.classes names others: --config.classes=NAME,NAME or a text file with a name per "
        f"line. Not trained on: {', '.join(others[:10])}{', ...' if len(others) > 10 else ''}. An adapter of all "
        "classes: --config=configs/few_shot.py."
    )


def _write_maps(classifier: Classifier, explained: list[OfImage], omitted: int, files: Workdir) -> None:
    """The maps of the predicted classes, and their page."""
    trained = classifier.trained
    about = (
        f"Why the predicted class: by the adapter of {trained.dataset}, variant {trained.names[0]}, "
        f"{describe_seeds(trained.seeds)}, and by zero-shot CLIP. Numbers are in points of the logit."
    )
    for name, content in heat_maps.files_of(explained, {}, "Where the predictions come from", about, omitted):
        files.write_bytes(name, content)
    print(f"Maps of {count(len(explained), 'image')} in {heat_maps.FOLDER}/; {heat_maps.PAGE} opens in a browser.")


def describe(plan: PredictionPlan, description: Description) -> None:
    """The dry run: run, backbone, images and classes."""
    loaded = description.attempt(runs.load_chosen, plan.run, "predict")
    if loaded is not None:
        trained, backbone = loaded
        description.section("Backbone", describe_backbone(backbone))
        restored = description.attempt(runs.restore, trained, backbone, DTYPES[plan.dtype])
        if restored and plan.explain:
            (adapters,) = restored
            run = (adapters.adapter, adapters.settings)
            description.attempt(explanation.check, adapters.method, run, backbone.params)
        description.section("Run", describe_run(trained))
    rows = description.attempt(_describe_images, plan) or {}
    if loaded is not None:
        rows |= description.attempt(_describe_classes, plan, *loaded) or {}
    description.section("Data", rows)


def _describe_images(plan: PredictionPlan) -> dict[str, Any]:
    images = unlabelled.asked_for(plan.images, plan.exif)
    return {"images": f"{len(images)}, from {images.names[0]} to {images.names[-1]}"}


def _describe_classes(plan: PredictionPlan, trained: Trained, backbone: Backbone) -> dict[str, Any]:
    """The classes that they are told apart into."""
    names = class_names(plan) or trained.class_names
    texts, token_ids = tokenize(names, plan.template or trained.template, backbone, trained.class_names)
    partial = {} if plan.classes or not trained.other_classes else {"of its data set": describe_partial(trained)}
    return {
        "classes": len(names),
        **partial,
        "prompts": "; ".join(map(repr, texts[:3])),
        "context": f"{token_ids.shape[1]} tokens",
    }
