"""Prepared data sets of tensorflow-datasets as encoded records with labels and file names, without TensorFlow.

In: a row of the table and TFDS's data_dir; of one in a bucket, the splits are copied to this machine first, because
records are read at random places. Out: `Records` per split. Whatever is in the way (not prepared and no
TensorFlow, another version, another file format, ImageNet's archives missing) is a `UserError` with the command
that helps.
"""

import dataclasses
import importlib.util
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dear_jax.data.datasets import DatasetRow, ways
from dear_jax.errors import UserError, first_line
from dear_jax.files import progress_bar, storage
from dear_jax.files.local_copy import LocalCopy

FORMAT = "array_record"  # the file format of TFDS that has random access
FILE_FEATURES = ("file_name", "image/file_name", "filename", "id")  # where TFDS keeps an image's file name
IMAGENET_ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar")


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """One split of a prepared data set.

    Attributes:
        name: data set, version and split, for messages.
        source: index -> serialized record.
        class_names: TFDS's, by label.
        labels: int64 [N].
        files: each record's file name; empty strings where TFDS keeps none.
    """

    name: str
    source: Sequence[bytes]
    class_names: tuple[str, ...]
    labels: np.ndarray
    files: tuple[str, ...]


def open_splits(row: DatasetRow, data_dir: str) -> dict[str, Records]:
    """The splits that the row uses, prepared first if need be.

    Args:
        row: what the table says.
        data_dir: TFDS's; empty for its default.
    """
    import tensorflow_datasets as tfds  # takes long, and only this source needs it

    wanted = list(dict.fromkeys(split for split in row.tfds_splits if split))
    folder = Path(os.path.expanduser(data_dir or tfds.core.constants.DATA_DIR))
    if storage.is_remote(data_dir):
        folder = _copy(row, data_dir, wanted)
    builder = _open(row, folder)
    absent = sorted(set(wanted) - set(builder.info.splits)) if builder.info.splits else []
    if absent:
        raise UserError(
            f"{row.tfds} in {folder} has no split {', '.join(absent)}; found {', '.join(builder.info.splits)}. Remove "
            f"{builder.data_dir} and prepare it again: {_command(row, folder)}"
        )
    return {split: _open_split(builder, split, row) for split in wanted}


def parse(record: bytes) -> Mapping[str, Any]:
    """The features of a serialized record, by name."""
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record).features.feature


def _copy(row: DatasetRow, data_dir: str, splits: Sequence[str]) -> Path:
    """A data_dir on this machine with these splits of a data set that is prepared in a bucket."""
    place = row.tfds.replace(":", "/")
    copy = LocalCopy(storage.to_path(data_dir) / place, place)
    if not copy.names:
        raise UserError(
            f"{row.tfds} is not prepared in {data_dir}: expected {copy.source}. Prepare it on a disk, then copy it "
            f"there by `gcloud storage cp --recursive`: {_command(row, Path('DATA_DIR'))}"
        )
    records = re.compile(rf"-(\w+)\.{FORMAT}")
    parts = {name: records.search(name) for name in copy.names}
    copy.fetch([name for name, part in parts.items() if part is None or part[1] in splits])
    return Path(copy.root)


def _open(row: DatasetRow, folder: Path) -> Any:
    """The builder of a data set that is prepared."""
    import tensorflow_datasets as tfds

    _check_versions(row, folder)
    try:
        builder = tfds.builder(row.tfds, data_dir=str(folder))
    except (AssertionError, ValueError) as error:  # also TFDS's DatasetNotFoundError
        if not _has_tensorflow():
            raise _needs_tensorflow(row, folder) from error
        raise UserError(
            f"TFDS version mismatch: tensorflow-datasets {tfds.__version__} cannot open {row.tfds} in {folder}: "
            f"{first_line(error).removesuffix('.')}. Install the version of tensorflow-datasets that has it, or use "
            "CoOp's folders (--config.data.source=coop)."
        ) from error
    return builder if builder.info.splits else _prepare(row, folder)


def _check_versions(row: DatasetRow, folder: Path) -> None:
    """Refuse to prepare a second version beside one that the user has: it may be a long download."""
    name, version = row.tfds.split(":")
    found = sorted(path.name for path in (folder / name).glob("*.*.*") if re.fullmatch(r"\d+\.\d+\.\d+", path.name))
    if found and version not in found:
        raise UserError(
            f"TFDS version mismatch: {folder / name} holds version {', '.join(found)}, and this project reads version "
            f"{version}. Prepare that one: {_command(row, folder)}"
        )


def _prepare(row: DatasetRow, folder: Path) -> Any:
    import tensorflow_datasets as tfds

    if row.tfds.startswith("imagenet2012"):
        _check_archives(row, folder)
    if not _has_tensorflow():
        raise _needs_tensorflow(row, folder)
    try:
        builder = tfds.builder(row.tfds, data_dir=str(folder), file_format=FORMAT)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # of any kind: network, disk, checksums, missing programs such as ffmpeg
        raise UserError(
            f"TFDS could not prepare {row.tfds} in {folder}: {type(error).__name__}: "
            f"{first_line(error).removesuffix('.')}. Mend that and start again, or use CoOp's folders "
            "(--config.data.source=coop)."
        ) from error
    return builder


def _check_archives(row: DatasetRow, folder: Path) -> None:
    manual = folder / "downloads" / "manual"
    absent = [name for name in IMAGENET_ARCHIVES if not (manual / name).exists()]
    if absent:
        raise UserError(
            f"{row.tfds} is not prepared in {folder}, and no program may download ImageNet: register at "
            f"https://image-net.org/download-images, put {' and '.join(absent)} into {manual}, and run "
            f"{_command(row, folder)}"
        )


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _needs_tensorflow(row: DatasetRow, folder: Path) -> UserError:
    return UserError(
        f"{row.tfds} is not prepared in {folder}, and preparing it needs TensorFlow (reading it does not): run "
        "pip install -e '.[tfds]' and start again; or prepare it elsewhere and copy the folder: "
        f"{_command(row, folder)} {ways(row)}"
    )


def _command(row: DatasetRow, folder: Path) -> str:
    """What prepares a data set; the `tfds` program would need Apache Beam."""
    call = f"tfds.builder('{row.tfds}', data_dir='{folder}', file_format='{FORMAT}').download_and_prepare()"
    return f'`python -c "import tensorflow_datasets as tfds; {call}"`.'


def _open_split(builder: Any, split: str, row: DatasetRow) -> Records:
    import tensorflow_datasets as tfds

    try:
        source = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    except (NotImplementedError, ValueError) as error:
        raise UserError(
            f"{builder.data_dir} is not in the file format {FORMAT}, the one with random access. Give another data_dir "
            f"by --config.data.root, or remove this one, and prepare it: {_command(row, Path('DATA_DIR'))}"
        ) from error
    labels, files = _index(Path(builder.data_dir), split, source)
    class_names = tuple(builder.info.features["label"].names)
    return Records(f"{row.tfds} {split}", source, class_names, labels, files)


def _index(folder: Path, split: str, source: Sequence[bytes]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Labels and file names of all records. All must be read for that, so the answer is kept beside them."""
    path = folder / f"dear_jax_index_{split}.npz"
    try:
        with np.load(path) as kept:
            if len(kept["labels"]) == len(source):
                return kept["labels"], tuple(kept["files"].tolist())
    except Exception:  # absent, or whatever NumPy, zipfile and zlib make of a damaged one: it is made anew
        pass
    labels, files = [], []
    what = f"Reading labels, once ({split})"
    for index in progress_bar.bar(range(len(source)), desc=what, unit="record", delay=progress_bar.DELAY):
        features = parse(source[index])
        labels.append(features["label"].int64_list.value[0])
        name = next((features[key].bytes_list.value[0] for key in FILE_FEATURES if key in features), b"")
        files.append(name.decode("utf-8", "replace"))
    _keep(path, labels, files)
    return np.array(labels, np.int64), tuple(files)


def _keep(path: Path, labels: Sequence[int], files: Sequence[str]) -> None:
    """Write the index where that is allowed; nothing depends on it."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".npz")
        with os.fdopen(descriptor, "wb") as file:
            np.savez_compressed(file, labels=np.array(labels, np.int64), files=np.array(files, np.str_))
        os.replace(temporary, path)
    except OSError:
        pass
