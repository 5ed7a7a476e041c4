r"""Job: what the images of a user show, by what a run has learned.

    python -m dear_jax.main --config=configs/predict.py --config.run=WORKDIR --config.images='*.jpg' \
        --config.classes=cat,dog

run, images, class names -> probabilities -> predictions.csv, probabilities.csv and the screen. Images that cannot be
read are named in predictions.csv and at the end, with exit code 2; the others are classified all the same.
"""

from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from dear_jax.data import class_list, unlabelled
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError
from dear_jax.evaluation.classifier import Classifier
from dear_jax.files.workdir import Workdir
from dear_jax.report import predictions
from dear_jax.report.predictions import WHOLE, ZERO_SHOT
from dear_jax.setup import programs as setup
from dear_jax.setup import runs as setup_runs


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Classify the images of `config.images` among `config.classes`.

    Raises:
        UserError: a bad config value, run, class list or pattern; at the end, images that could not be read.
    """
    setup.check(config)
    images = open_images(config)
    names = class_names(config)
    with Workdir(workdir) as files:
        files.check_config(config)
        trained, backbone = setup_runs.load_chosen(config)
        classifier = Classifier(
            trained,
            backbone,
            names,
            template=config.data.template,
            new_classes=config.fusion.new_classes,
            dtype=config.compute.dtype,
            matmul_precision=config.compute.matmul_precision,
            batch_size=config.eval.batch_size,
            workers=config.data.workers,
        )
        print(
            f"{len(images)} images, {len(classifier.classes)} classes, prompt {classifier.template!r}, adapter of "
            f"{trained.dataset}, variant {trained.names[0]}, {describe_seeds(trained.seeds)}.",
            flush=True,
        )
        bad = classify(classifier, images, files, config.predict.shown)
        print(f"All files of this run are in {files.path}.", flush=True)
    if bad:
        raise UserError(unlabelled.unreadable(bad, len(images)))


def open_images(config: ConfigDict) -> ImageSplit:
    """The user's images."""
    if not config.images:
        raise UserError(
            "config.images is empty: give a folder, a pattern in quotes such as --config.images='photos/*.jpg', or a "
            "text file with a path per line."
        )
    return unlabelled.gather(config.images, config.data.exif)


def class_names(config: ConfigDict) -> tuple[str, ...] | None:
    """The classes that the user gives; none: those that the run was trained on."""
    return class_list.parse(config.classes) if config.classes else None


def classify(classifier: Classifier, images: ImageSplit, files: Workdir, shown: int) -> list[str]:
    """Write and print what all images are, in their order.

    Returns:
        Which images could not be read, and why.
    """
    opinions = (WHOLE, ZERO_SHOT, *classifier.paths)
    top = [predictions.header(opinions)]
    table = [["image", *classifier.classes]]
    labels: list[str] = []
    bad: list[str] = []
    for prediction, readable in classifier.stream(images, skip_bad=True):
        for name, row, label, good in zip(
            prediction.images, prediction.rows(), prediction.labels, readable, strict=True
        ):
            if not good:
                bad.append(images.problem(len(top) - 1))
                top.append(predictions.bad_row(name, opinions, bad[-1]))
                table.append([name, *[""] * len(classifier.classes)])
                continue
            top.append(predictions.row(name, classifier.classes, row))
            table.append([name, *map(predictions.number, row[WHOLE])])
            labels.append(label)
            if len(labels) <= shown:
                print(predictions.describe(name, classifier.classes, row), flush=True)
    files.write_text("predictions.csv", predictions.to_csv(top))
    files.write_text("probabilities.csv", predictions.to_csv(table))
    if len(labels) > shown:
        print(f"... and {len(labels) - shown} more images in predictions.csv.")
    if labels:
        print(f"Predicted: {predictions.summary(labels)}.")
    return bad


def describe_seeds(seeds: Sequence[int]) -> str:
    """Whose probabilities are given."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of the seeds {', '.join(map(str, seeds))}"
