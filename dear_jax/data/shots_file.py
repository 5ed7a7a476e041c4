r"""Few-shot draws as JSON lines, the form in which 2SFS (arXiv 2503.11609) publishes its 165 draws.

    {"_impath": "oxford_pets/images/beagle_1.jpg", "_label": 4, "_domain": -1, "_classname": "beagle", ...}

In: a name of files, in which {shots}, {seed} and {split} stand for these, as in 2SFS's
`split_fewshot/shot_{shots}-seed_{seed}_{split}.jsonl`. Out: the images of each seed's draw. What the name does not
tell, lines tell by their keys `split` and `seed`; a line without them is of training, and of every seed. Paths count
from their end, so that those of another machine lead to the same images.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.errors import UserError, count, show
from dear_jax.files import json_files, storage

KEY = "config.data.shots_file"
SPLITS = ("train", "val")
PATH, LABEL, DOMAIN, NAME = "_impath", "_label", "_domain", "_classname"  # Dassl's names


class Draw(NamedTuple):
    """Of one seed, over all classes, in drawing order."""

    train: np.ndarray  # int64, places in the training split
    val: np.ndarray  # int64, places in the validation split


def find(name: str, shots: int, seed: int) -> dict[str, epath.Path]:
    """Split -> its file, one of several or the same for both."""
    return {
        split: storage.to_path(
            name.replace("{shots}", str(shots)).replace("{seed}", str(seed)).replace("{split}", split)
        )
        for split in SPLITS
    }


def read(name: str, dataset: ImageDataset, val: ImageSplit, shots: int, seed: int) -> Draw | None:
    """The draw of a seed; None where there is no file of training images.

    Args:
        name: of the files.
        dataset: whose training images are drawn.
        val: whose validation images are; empty: none are looked for.
        shots: training images per class.
        seed: of the draw.

    Raises:
        UserError: a file cannot be read; an image that the data set does not have, or has under another label; another
            number of shots; no image of this seed or of a class.
    """
    files = find(name, shots, seed)
    if not files["train"].exists():
        return None
    train = _places(files["train"], "train", "train", seed, dataset.train, dataset)
    _check_shots(files["train"], dataset, train, shots, seed)
    if not len(val) or not files["val"].exists():
        return Draw(train, np.zeros(0, np.int64))
    unnamed = "train" if files["val"] == files["train"] else "val"
    return Draw(train, _places(files["val"], "val", unnamed, seed, val, dataset))


def write(name: str, dataset: ImageDataset, val: ImageSplit, shots: int, draws: Mapping[int, Draw]) -> None:
    """Write the draws of some seeds.

    Raises:
        UserError: they cannot be written.
    """
    content: dict[epath.Path, list[str]] = {}
    for seed, draw in draws.items():
        files = find(name, shots, seed)
        for split, images, places in (("train", dataset.train, draw.train), ("val", val, draw.val)):
            names = images.names
            for place in places.tolist():
                label = int(images.labels[place])
                entry = {PATH: names[place], LABEL: label, DOMAIN: -1, NAME: dataset.class_names[label]}
                line = json.dumps({**entry, "split": split, "seed": seed}, ensure_ascii=False)
                content.setdefault(files[split], []).append(line)
    for file, lines in content.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            storage.write_atomically(file, "\n".join(lines) + "\n")
        except storage.failures() as error:
            why = storage.reason(error)
            raise UserError(f"{KEY}: cannot write {file}: {why}. Give a file that you may write.") from error


def _places(
    file: epath.Path, split: str, unnamed: str, seed: int, images: ImageSplit, dataset: ImageDataset
) -> np.ndarray:
    """The places of a file's images of a seed in their split; `unnamed` is the split of lines that name none."""
    place_of = {name.replace("\\", "/"): place for place, name in enumerate(images.names)}
    found, absent = [], []
    seeds = set[Any]()
    for number, entry in _entries(file):
        seeds.add(entry.get("seed", seed))
        if entry.get("split", unnamed) != split or entry.get("seed", seed) != seed:
            continue
        place = next((place_of[end] for end in _ends(entry[PATH]) if end in place_of), None)
        if place is None:
            absent.append(f"{entry[PATH]} (line {number})")
            continue
        label = int(images.labels[place])
        if entry[LABEL] != label:
            raise UserError(
                f"{KEY}: {file}, line {number}: {entry[PATH]} has the label {entry[LABEL]} ({entry[NAME]}), and in "
                f"{dataset.name} {label} ({dataset.class_names[label]}): it is of other classes or of another order."
            )
        found.append(place)
    if absent:
        some = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        what = {"train": "training", "val": "validation"}[split]
        raise UserError(
            f"{KEY}: {file} lists {count(len(absent), 'image')} that the {what} images of {dataset.name} do not have: "
            f"{some}. They are called like {', '.join(images.names[:2])}. Give draws of this data set and its splits."
        )
    if not found and split == "train":
        others = f"; it has seeds {', '.join(map(str, sorted(seeds, key=str)))}" if seeds - {seed} else ""
        raise UserError(f"{KEY}: {file} lists no training image of seed {seed}{others}. Give other config.seeds.")
    return np.array(found, np.int64)


def _ends(path: str) -> Iterator[str]:
    """The path, and it without its first parts: the longest first."""
    parts = path.replace("\\", "/").split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _entries(file: epath.Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbered lines, with their form checked."""
    try:
        lines = storage.read_bytes(file).decode("utf-8-sig").splitlines()
    except storage.failures(UnicodeDecodeError) as error:
        raise UserError(f"{KEY}: {file} cannot be read: {storage.reason(error)}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json_files.parse(line)
        except ValueError:
            entry = None
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get(PATH), str)
            and isinstance(entry.get(NAME), str)
            and isinstance(entry.get(LABEL), int)
            and not isinstance(entry[LABEL], bool)
        ):
            raise UserError(
                f"{KEY}: {file}, line {number}: expected JSON with {PATH} and {NAME}, texts, and {LABEL}, an integer; "
                f"found {show(line)}."
            )
        yield number, entry


def _check_shots(file: epath.Path, dataset: ImageDataset, train: np.ndarray, shots: int, seed: int) -> None:
    per_class = np.bincount(dataset.train.labels[train], minlength=len(dataset.class_names))
    empty = [dataset.class_names[label] for label in np.flatnonzero(per_class == 0).tolist()]
    if empty:
        raise UserError(
            f"{KEY}: {file} has no training image of {count(len(empty), 'class')} for seed {seed}: "
            f"{', '.join(empty[:10])}. A draw is over all classes of {dataset.name}."
        )
    if per_class.max() != shots:
        raise UserError(
            f"{KEY}: {file} has {per_class.min()} to {per_class.max()} training images of a class for seed {seed}, and "
            f"config.data.shots is {shots}. Give --config.data.shots={per_class.max()}, or the draws of {shots} shots."
        )
