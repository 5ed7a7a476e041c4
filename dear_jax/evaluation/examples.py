"""What is known of single test images once they were evaluated: what the page of a run shows, and a table on request.

In: what was predicted. Out: `examples.json` with the classes that are taken for each other, the images that tell most
and their thumbnails, all of the first variant; and with `config.eval.predictions` `predictions.csv` with every image.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from dear_jax.data import transforms
from dear_jax.data.class_set import ClassSet
from dear_jax.evaluation.accuracy import Predictions, Said, Scores
from dear_jax.files.workdir import Workdir
from dear_jax.methods.adapter_file import Trained
from dear_jax.parallel import processes
from dear_jax.report import predictions, sprites
from dear_jax.report.predictions import WHOLE, ZERO_SHOT
from dear_jax.report.run_page import EXAMPLES, PICTURES, THUMBNAIL
from dear_jax.report.text_tables import to_csv
from dear_jax.setup.plans.evaluate import Measuring

TABLE = "predictions.csv"
SHOWN = 16  # in a gallery, at most


def write(
    files: Workdir,
    measuring: Measuring,
    classes: Mapping[str, ClassSet],
    scores: Mapping[str, Scores],
    trained: Trained | None,
    image_size: int,
) -> None:
    """Write what is known of the images, which the first process alone does.

    Args:
        files: of the run.
        measuring: whether to write the table of all images.
        classes: the class sets.
        scores: of the same, with their predictions.
        trained: the adapters that were measured; None: zero-shot CLIP alone.
        image_size: pixels that the model sees.
    """
    if not processes.is_first():
        return
    found = {name: of_set.predictions for name, of_set in scores.items() if of_set.predictions is not None}
    files.write_json(EXAMPLES, find(classes, found, trained, min(image_size, THUMBNAIL)))
    if measuring.predictions:
        files.write_text(TABLE, to_csv(rows(classes, found, trained)))


def find(
    classes: Mapping[str, ClassSet], found: Mapping[str, Predictions], trained: Trained | None, size: int
) -> dict[str, Any]:
    """The content of examples.json: per class set pairs of classes and galleries; thumbnails of `size` pixels."""
    shown = min(SHOWN, max(1, PICTURES // (3 * len(found))))
    pictures: list[np.ndarray] = []
    class_sets = {}
    for name, of_set in found.items():
        images = classes[name].test
        galleries: dict[str, list[dict[str, Any]]] = {}
        image_names = images.names
        for gallery, order in choose(of_set).items():
            galleries[gallery] = []
            for index in order[:shown]:
                about = {"image": image_names[index], "picture": len(pictures)}
                galleries[gallery].append(about | _said_of(of_set, int(index), trained))
                pictures.append(transforms.resize_and_crop(images.load(int(index)), size))
        class_sets[name] = {"pairs": pairs(of_set), "changes": _changes(of_set), "galleries": galleries}
    return {
        "variant": trained.names[0] if trained else "",
        "seeds": list(trained.seeds) if trained else [],
        "class_sets": class_sets,
        "pictures": sprites.sheets(np.stack(pictures)) if pictures else [],
    }


def _runs(found: Predictions) -> Said:
    """What every seed of the first variant says, [S, n]; without adapters, zero-shot CLIP as the only one."""
    if found.adapted.labels.shape[2]:
        return Said(*(values[0, :, 0] for values in found.adapted))
    return Said(*(values[None] for values in found.zero_shot))


def choose(found: Predictions) -> dict[str, Int[np.ndarray, "M"]]:
    """The images that tell most, those that tell more first.

    Returns:
        "errors": the wrong ones, by the mean over the seeds of the probability of what is wrong. "gained": those that
        zero-shot CLIP gets wrong and a seed right, by how many seeds do, then by how sure CLIP was. "lost": those that
        CLIP gets right and a seed wrong, by how many seeds do, then by how sure these are.
    """
    said = _runs(found)
    right, plain = said.labels == found.labels, found.zero_shot.labels == found.labels
    wrongly = np.where(right, 0.0, said.probabilities).mean(axis=0)
    order = {"errors": _best(~right.all(axis=0), wrongly)}
    if found.adapted.labels.shape[2]:
        order["gained"] = _best(~plain & right.any(axis=0), right.sum(axis=0), found.zero_shot.probabilities)
        order["lost"] = _best(plain & ~right.all(axis=0), (~right).sum(axis=0), wrongly)
    return order


def _best(among: np.ndarray, *keys: np.ndarray) -> Int[np.ndarray, "M"]:
    """Indices of some images, the largest first by the first key, among equals by the next, then in their order."""
    order = np.lexsort([-key for key in reversed(keys)])
    return order[among[order]]


def _changes(found: Predictions) -> dict[str, list[int]]:
    """How many images each seed has gained against zero-shot CLIP, and lost."""
    right, plain = _runs(found).labels == found.labels, found.zero_shot.labels == found.labels
    return {"gained": (right & ~plain).sum(axis=1).tolist(), "lost": (~right & plain).sum(axis=1).tolist()}


def pairs(found: Predictions) -> dict[str, list[int]]:
    """The cells of the confusion matrix that are not empty: true and predicted class, and how many images.

    Counts of the adapters are summed over the seeds, those of `zero_shot` are of zero-shot CLIP.
    """
    said = _runs(found).labels
    count = 1 + int(max(found.labels.max(), said.max(), found.zero_shot.labels.max()))
    adapted, plain = (
        np.bincount((found.labels * count + labels).reshape(-1), minlength=count**2)
        for labels in (said, found.zero_shot.labels)
    )
    cells = np.flatnonzero(adapted + plain)
    columns = {"true": cells // count, "predicted": cells % count, "images": adapted[cells], "zero_shot": plain[cells]}
    return {name: values.tolist() for name, values in columns.items()}


def _said_of(found: Predictions, index: int, trained: Trained | None) -> dict[str, Any]:
    """The true class of an image, and the class and probability that each seed, CLIP and the first seed's paths say."""

    def at(said: Said, *place: int) -> list[float]:
        return [int(said.labels[*place, index]), round(float(said.probabilities[*place, index]), 4)]

    seeds = trained.seeds if trained else ()
    return {
        "truth": int(found.labels[index]),
        "seeds": {str(seed): at(found.adapted, 0, s, 0) for s, seed in enumerate(seeds)},
        "zero_shot": at(found.zero_shot),
        "paths": {path: at(found.paths, 0, i) for i, path in enumerate(found.path_names)},
    }


def rows(
    classes: Mapping[str, ClassSet], found: Mapping[str, Predictions], trained: Trained | None
) -> Iterator[list[str]]:
    """The rows of predictions.csv: every test image of every class set under every seed, with what each path says."""
    paths = next(iter(found.values())).path_names
    opinions = (WHOLE, ZERO_SHOT, *paths) if trained else (WHOLE,)
    image, *columns, _ = predictions.header(opinions)
    yield ["classes", "seed", image, "truth", *columns]
    for name, of_set in found.items():
        names, images = classes[name].class_names, classes[name].test.names
        for s, seed in enumerate(trained.seeds if trained else ("",)):
            said = [Said(*(values[s] for values in _runs(of_set)))]
            if trained:
                of_paths = (Said(*(values[s, i] for values in of_set.paths)) for i in range(len(paths)))
                said += [of_set.zero_shot, *of_paths]
            for index, image in enumerate(images):
                cells = [
                    cell
                    for one in said
                    for cell in (names[one.labels[index]], predictions.number(one.probabilities[index]))
                ]
                yield [name, str(seed), image, names[of_set.labels[index]], *cells]
