"""Source `hf`: data sets of the library `datasets`, from the Hugging Face Hub or a folder that it has saved.

In: `USER/DATASET`, `USER/DATASET:SUBSET@REVISION` or a folder; the columns of image and label where they cannot be
found. Out: the data set, with its own splits or with drawn ones. Images stay encoded until they are asked for; Pillow
decodes them, by the project's rules and not by those of `datasets`.
"""

import dataclasses
import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from dear_jax.data import images, listing
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.data.listing import SPLITS, Listing
from dear_jax.data.sources.folder import SPLIT_NAMES
from dear_jax.data.splits import random_splits
from dear_jax.errors import UserError, count, first_line, show
from dear_jax.files import hub, storage

# Owner and name (older ones have no owner), a subset and a revision.
_NAME = re.compile(r"((?:[A-Za-z0-9][\w.-]*/)?[\w.-]+)(?::([\w.-]+))?(?:@(\S+))?")
SAVED = ("dataset_dict.json", "state.json")  # by which a folder of `save_to_disk` is known
LABELS = ("label", "labels", "class", "class_name", "category")  # names of columns, of which the first counts
IMAGES = ("image", "img", "images", "picture")


@dataclasses.dataclass(frozen=True, eq=False)
class RowLoader:
    """Index -> image, for a split whose images are rows.

    Attributes:
        rows: by the name of a split; each has one column of images, encoded.
        column: its name.
        names: how to call the images, and where they are: SPLIT/ROW.
        exif: whether to turn images as their EXIF tag says.
    """

    rows: Mapping[str, Any]
    column: str
    names: tuple[str, ...]
    exif: bool = True

    def __call__(self, index: int) -> np.ndarray:
        """The image, uint8 [H, W, 3]."""
        name = self.names[index]
        split, _, row = name.rpartition("/")
        try:
            image = self.rows[split][int(row)][self.column]
        except Exception as error:  # of `datasets`, pyarrow or the disk
            raise UserError(f"The image {name} cannot be read ({_said(error)}). {images.SKIP_HINT}") from error
        if image is None:
            raise UserError(f"The image {name} is missing in its row. {images.SKIP_HINT}")
        if image["bytes"] is None:
            return images.read(epath.Path(image["path"] or ""), self.exif)
        return images.decode(image["bytes"], name, self.exif)


def load(
    root: str,
    *,
    template: str,
    image_column: str = "",
    label_column: str = "",
    split_seed: int = 0,
    earlier: Mapping[str, Any] | None = None,
    exif: bool = True,
) -> ImageDataset:
    """A data set of the hub, or of a folder.

    Args:
        root: USER/DATASET, with :SUBSET and @REVISION where they are needed; or a folder.
        template: prompt with one {}.
        image_column: of the images; empty: the one that there is.
        label_column: of the labels; empty: the one that there is.
        split_seed: decides which images are for training, validation and testing where there is one split.
        earlier: the `drawn_splits` of an earlier start, taken again.
        exif: whether to turn images as their EXIF tag says.

    Raises:
        UserError: there is no such data set, it cannot be had, or has no images with labels.
    """
    found, version = _open(root)
    parts, others = _parts(found, root)
    rows = {name: found[name] for name in parts.values()}
    features = next(iter(rows.values())).features
    column, label_column = _columns(features, root, image_column, label_column)
    class_names, labels = _labels(rows, label_column, features[label_column], root)
    others += [f"{name}, without labels" for name in parts.values() if not len(labels[name])]
    parts = {split: name for split, name in parts.items() if len(labels[name])}
    drawn = list(parts) == ["train"]
    if drawn:
        entries = _draw(parts["train"], labels, class_names, split_seed) if earlier is None else earlier
        splits = listing.check(entries, "splits.json of the workdir")
        _check_same(splits, labels, class_names)
        places = {split: [(path, label) for path, label, _ in splits[split]] for split in SPLITS}
    else:
        splits = {}
        if "test" not in parts and "val" in parts:  # as ImageNet's
            parts["test"] = parts.pop("val")
        places = {split: _places(parts.get(split), labels) for split in SPLITS}
    encoded = {name: _encoded(one, column) for name, one in rows.items()}
    made = {
        split: ImageSplit(
            np.array([label for _, label in of], np.int64), RowLoader(encoded, column, tuple(p for p, _ in of), exif)
        )
        for split, of in places.items()
    }
    named = ", ".join(f"{split}: {name}" for split, name in parts.items())
    notes = {
        "source": "hf",
        "hf": version,
        "columns": f"{column}, {label_column}",
        "splits": "splits.json in the workdir, drawn by config.data.split_seed" if drawn else f"its own ({named})",
        **({"splits_left_out": others} if others else {}),
    }
    return ImageDataset(
        name=_short(root),
        class_names=class_names,
        template=template,
        train=made["train"],
        val=made["val"],
        test=made["test"],
        notes=notes,
        drawn_splits=splits,
    )


def _short(root: str) -> str:
    """What to call it: the last part of its name or folder."""
    return root.partition("@")[0].rstrip("/").rsplit("/", 1)[-1] or root


def _open(root: str) -> tuple[dict[str, Any], str]:
    """Split -> its rows, and which version of the data set it is."""
    if storage.is_remote(root):
        raise UserError(f"config.data.root: {root} is in a bucket, which the source hf does not read. Copy it here.")
    folder = Path(os.path.expanduser(root))
    match = _NAME.fullmatch(root)
    if not root or not (folder.is_dir() or match):
        raise UserError(
            "config.data.root: expected a data set of the Hugging Face Hub as USER/DATASET (with :SUBSET and @REVISION "
            f"where needed), or a folder that `datasets` has saved, found {show(root)}."
        )
    if importlib.util.find_spec("datasets") is None:
        raise UserError("config.data.source=hf needs the library datasets: pip install -e '.[hf]'.")
    import datasets

    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    if folder.is_dir():
        saved = any((folder / name).exists() for name in SAVED)
        found = _call(root, datasets.load_from_disk if saved else datasets.load_dataset, str(folder))
        version = str(folder)
    else:
        assert match
        name, subset, revision = match.groups()
        commit = _commit(name, revision)
        print(f"Loading {root} ...", flush=True)
        found = _call(root, datasets.load_dataset, name, subset, revision=commit or revision)
        version = f"{name}{f':{subset}' if subset else ''}@{commit or revision or 'the copy in the cache'}"
    if not isinstance(found, Mapping):
        found = {"train": found}
    return dict(found), version


def _commit(name: str, revision: str | None) -> str:
    """Which commit of a data set of the hub it is; empty where the hub cannot be asked and the cache has a copy."""
    import datasets
    from datasets.naming import camelcase_to_snakecase
    from huggingface_hub import HfApi, constants

    try:
        return str(HfApi().dataset_info(name, revision=revision, timeout=hub.TIMEOUT).sha)
    except Exception as error:  # of the hub's library or its HTTP library, changing with their versions
        why = hub.reason(error, f"datasets/{name}")
        cache = Path(datasets.config.HF_DATASETS_CACHE)
        *owner, last = name.split("/")
        if not (cache / "___".join([*owner, camelcase_to_snakecase(last)])).is_dir():
            raise UserError(
                f"config.data.root is {show(name)}: there is no folder of that name, and the data set could not be had "
                f"from {constants.ENDPOINT} ({why}); the cache folder {cache} has no copy either. Without access, save "
                "it by `datasets.load_dataset(...).save_to_disk(FOLDER)` on a machine that has it, and give the folder."
            ) from error
        print(f"{name}: the copy in {cache} counts ({why}).", flush=True)
        return ""


def _call(root: str, load: Any, *arguments: Any, **options: Any) -> Any:
    """What a function of `datasets` makes of a data set; what it raises, as one paragraph."""
    try:
        return load(*arguments, **options)
    except Exception as error:  # of any kind: network, disk, formats, a subset that has to be named
        raise UserError(f"config.data.root: datasets cannot load {root}: {_said(error)}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error, 3)}"


def _parts(found: Mapping[str, Any], root: str) -> tuple[dict[str, str], list[str]]:
    """Split -> what the data set calls it, and which of its splits are none of ours; a single one is of training."""
    split_of = {name: split for name in found for split, names in SPLIT_NAMES.items() if name.lower() in names}
    if len(found) == 1 and not split_of:
        return {"train": next(iter(found))}, []
    parts = {split: [name for name in split_of if split_of[name] == split] for split in SPLITS}
    twice = [names for names in parts.values() if len(names) > 1]
    if twice or not split_of:
        what = f"{' and '.join(twice[0])} are the same split" if twice else "none is for training or testing"
        names = ", ".join(found)
        raise UserError(f"config.data.root: {root} has the splits {names}: {what}. Save it with other names.")
    chosen = {split: names[0] for split, names in parts.items() if names}
    return chosen, [name for name in found if name not in split_of]


def _columns(features: Mapping[str, Any], root: str, image: str, label: str) -> tuple[str, str]:
    """The columns of image and label.

    Raises:
        UserError: one that is named is not there or of another type; there is none, or none stands out.
    """
    import datasets

    def choose(key: str, given: str, fit: Sequence[str], usual: Sequence[str], what: str) -> str:
        named = [name for name in usual if name in fit]
        if given in fit:
            return given
        if not given and (len(fit) == 1 or named):
            return fit[0] if len(fit) == 1 else named[0]
        columns = ", ".join(f"{name} ({_type(feature)})" for name, feature in features.items())
        found = f"found {show(given)}" if given else f"found {' and '.join(fit)}" if fit else "found none"
        raise UserError(
            f"config.data.{key}: expected {what} of {root}, {found}. Its columns are {columns}. Name one by "
            f"--config.data.{key}=COLUMN."
        )

    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    texts = [name for name, feature in features.items() if _type(feature) in ("string", "large_string")]
    fit = [*classes, *texts] if label else classes or [name for name in texts if name in LABELS]
    image = choose("image_column", image, pictures, IMAGES, "a column of images (type Image)")
    return image, choose("label_column", label, fit, LABELS, "a column of labels (type ClassLabel, or texts)")


def _type(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__) if hasattr(feature, "_type") else "list"


def _labels(
    rows: Mapping[str, Any], column: str, feature: Any, root: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Class names, and int64 [N] labels of each split; none of a split in which no image has one."""
    values = {name: one.select_columns([column])[:][column] for name, one in rows.items()}
    if hasattr(feature, "names"):
        class_names = tuple(feature.names)
        labels = {name: np.array([-1 if v is None else v for v in of], np.int64) for name, of in values.items()}
    else:
        class_names = tuple(sorted({value for of in values.values() for value in of if value is not None}))
        label_of: dict[Any, int] = {value: label for label, value in enumerate(class_names)}
        labels = {name: np.array([label_of.get(v, -1) for v in of], np.int64) for name, of in values.items()}
    for name, of in labels.items():
        unlabelled = int((of < 0).sum())
        if unlabelled == len(of):
            labels[name] = of[:0]
        elif unlabelled:
            raise UserError(
                f"config.data.root: {unlabelled} of {count(len(of), 'row')} in the split {name} of {root} have no "
                f"label in the column {column}. Leave them out by `filter`, save the others by `save_to_disk`, give "
                "that folder."
            )
    present = sorted(set(np.concatenate(list(labels.values())).tolist()))
    if not present:
        raise UserError(f"config.data.root: no row of {root} has a label in the column {column}.")
    labels = {name: np.searchsorted(present, of) for name, of in labels.items()}  # a filtered data set keeps all names
    return tuple(class_names[label] for label in present), labels


def _places(name: str | None, labels: Mapping[str, np.ndarray]) -> list[tuple[str, int]]:
    """Every image of a split of the data set, and its label."""
    return [] if name is None else [(f"{name}/{row}", label) for row, label in enumerate(labels[name].tolist())]


def _draw(name: str, labels: Mapping[str, np.ndarray], class_names: Sequence[str], seed: int) -> Listing:
    drawn = random_splits(labels[name], seed, class_names)
    places = _places(name, labels)
    return {split: [(*places[row], class_names[places[row][1]]) for row in drawn[split]] for split in SPLITS}


def _check_same(splits: Listing, labels: Mapping[str, np.ndarray], class_names: Sequence[str]) -> None:
    """Refuse splits of an earlier start whose rows are no longer what they were."""
    for path, label, class_name in (entry for entries in splits.values() for entry in entries):
        name, _, row = path.rpartition("/")
        known = labels.get(name, ())
        if not (row.isdecimal() and int(row) < len(known) and known[int(row)] == label):
            raise UserError(
                f"splits.json of the workdir has {path} ({class_name}), which this data set does not have: it is of "
                "another version. Give the version of the first start as @REVISION, or another --workdir."
            )


def _encoded(rows: Any, column: str) -> Any:
    """The rows with their images alone, as files have them."""
    import datasets

    return rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
