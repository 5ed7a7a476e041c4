"""The data sets that a config can name: one table, one row each. `loading.py` loads them.

Class and image counts are those of the splits that CoOp published and that CoCoOp, MaPLe, PromptSRC and MMRL
read too; folders and files are those of its layout (github.com/KaiyangZhou/CoOp, DATASETS.md).
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from dear_jax.data.world import tasks
from dear_jax.errors import UserError, show

A_PHOTO = "a photo of a {}."
PUBLISHED_AT = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"  # which folders and files CoOp expects
ARCHIVES = "zhengli97/prompt_learning_dataset"  # on the hub: CoOp's folders as archives, by the authors of PromptKD
FILE_ORDER = "Few-shot draws take sorted files; CoOp's tools take them as the file system lists them."


@dataclasses.dataclass(frozen=True)
class DatasetRow:
    """What there is to know about a data set before any image is read.

    Attributes:
        template: its prompt, with one {} for the class name.
        classes: how many there are; 0: it depends.
        images: how many train, val and test have; ImageNet's val is its test, its variants have test only.
        names: where readable class names come from. In TFDS they are made from its labels, but for ImageNet's.
        layout: how the CoOp layout tells its splits: split file | variants (FGVC's own lists) | wnids (a folder
            per WordNet id) | indices (a folder per class number); empty for the embedded world and one's own.
        folder: of the data set, below data.root.
        image_folder: what the split paths are relative to, below `folder`; for wnids and indices, where the
            class folders are: training images, then test images.
        split_file: CoOp's, in `folder`.
        tfds: name, config and version in tensorflow-datasets; empty where it has none.
        tfds_splits: its train, val and test; without a test, all three are drawn from train.
        tfds_path: the path in CoOp's split file of a record of TFDS, made of {name}, {label} (class name) and
            {split}; empty where TFDS keeps no file names, so that CoOp's splits cannot be found again.
        hub: a copy on the Hugging Face Hub for the source hf; not checked by this project. Empty: none is known.
        archive: a file of `ARCHIVES` with a copy of CoOp's folder and its split file; not checked either.
        distinct_names: whether two classes of one name are a mistake; ImageNet has such pairs.
        remarks: of comparable results, what to know all the same; by source, coop or tfds.
    """

    template: str
    classes: int = 0
    images: tuple[int, int, int] = (0, 0, 0)
    names: str = ""
    layout: str = ""
    folder: str = ""
    image_folder: tuple[str, ...] = ("",)
    split_file: str = ""
    tfds: str = ""
    tfds_splits: tuple[str, str, str] = ("train", "", "test")
    tfds_path: str = ""
    hub: str = ""
    archive: str = ""
    distinct_names: bool = True
    remarks: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _listed(template: str, classes: int, images: tuple[int, int, int], folder: str, **rest: Any) -> DatasetRow:
    """A data set whose fixed splits and class names are in one of CoOp's JSON files."""
    return DatasetRow(template, classes, images, "its split file", "split file", folder, **rest)


def _variant(classes: int, images: int, folder: str, image_folder: str, tfds: str, layout: str = "wnids") -> DatasetRow:
    """A test set with ImageNet's classes or 200 of them."""
    return DatasetRow(
        A_PHOTO,
        classes,
        (0, 0, images),
        archive=f"{folder}.zip",
        names="classnames.txt",
        layout=layout,
        folder=folder,
        image_folder=(image_folder,),
        tfds=tfds,
        tfds_splits=("", "", "test"),
        distinct_names=False,
    )


# fmt: off
DATASETS: dict[str, DatasetRow] = {
    **{name: DatasetRow(tasks.TEMPLATE, names="the words of the embedded world") for name in tasks.TASKS},
    "folder": DatasetRow(A_PHOTO, names="the folders, or classnames.txt beside them"),  # images of one's own
    "hf": DatasetRow(A_PHOTO, names="the features of its labels"),  # of the Hugging Face Hub, or saved by `datasets`
    "imagenet": DatasetRow(
        A_PHOTO, 1000, (1281167, 50000, 50000), names="classnames.txt", layout="wnids", folder="imagenet",
        image_folder=("images/train", "images/val"), tfds="imagenet2012:5.1.0",
        tfds_splits=("train", "validation", "validation"), hub="ILSVRC/imagenet-1k", distinct_names=False,
        remarks=dict.fromkeys(("coop", "tfds"), FILE_ORDER)),
    "caltech101": _listed(
        A_PHOTO, 100, (4128, 1649, 2465), "caltech-101", image_folder=("101_ObjectCategories",),
        split_file="split_zhou_Caltech101.json", tfds="caltech101:3.0.2", tfds_path="{label}/{name}",
        archive="caltech-101.zip"),
    "oxford_pets": _listed(
        "a photo of a {}, a type of pet.", 37, (2944, 736, 3669), "oxford_pets", image_folder=("images",),
        split_file="split_zhou_OxfordPets.json", tfds="oxford_iiit_pet:4.0.0", tfds_path="{name}",
        archive="oxford_pets.zip"),
    "stanford_cars": _listed(
        A_PHOTO, 196, (6509, 1635, 8041), "stanford_cars",
        split_file="split_zhou_StanfordCars.json", tfds="cars196:2.1.0", tfds_path="cars_{split}/{name}.jpg",
        archive="stanford_cars.zip"),
    "oxford_flowers": _listed(
        "a photo of a {}, a type of flower.", 102, (4093, 1633, 2463), "oxford_flowers", image_folder=("jpg",),
        split_file="split_zhou_OxfordFlowers.json", tfds="oxford_flowers102:2.1.1",
        tfds_splits=("train", "validation", "test"), tfds_path="{name}", archive="oxford_flowers.zip"),
    "food101": _listed(
        "a photo of {}, a type of food.", 101, (50500, 20200, 30300), "food-101", image_folder=("images",),
        split_file="split_zhou_Food101.json", tfds="food101:2.1.0",
        tfds_splits=("train", "", "validation"), tfds_path="{name}.jpg", hub="ethz/food101",
        archive="food101.zip"),
    "fgvc_aircraft": DatasetRow(
        "a photo of a {}, a type of aircraft.", 100, (3334, 3333, 3333), names="variants.txt", layout="variants",
        folder="fgvc_aircraft", image_folder=("images",), archive="fgvc_aircraft.zip"),
    "sun397": _listed(
        A_PHOTO, 397, (15880, 3970, 19850), "sun397", image_folder=("SUN397",),
        split_file="split_zhou_SUN397.json", tfds="sun397/standard-part1-120k:4.0.0", tfds_path="{name}",
        archive="sun397.zip",
        remarks={"tfds": "TFDS shrinks these images to 120,000 pixels and compresses them again."}),
    "dtd": _listed(
        "{} texture.", 47, (2820, 1128, 1692), "dtd", image_folder=("images",),
        split_file="split_zhou_DescribableTextures.json", tfds="dtd:3.0.1",
        tfds_splits=("train", "validation", "test"), tfds_path="{name}", archive="dtd.zip"),
    "eurosat": _listed(
        "a centered satellite photo of {}.", 10, (13500, 5400, 8100), "eurosat", image_folder=("2750",),
        split_file="split_zhou_EuroSAT.json", tfds="eurosat/rgb:2.0.0",
        tfds_splits=("train", "", ""), tfds_path="{label}/{name}", archive="eurosat.zip"),
    "ucf101": _listed(
        "a photo of a person doing {}.", 101, (7639, 1898, 3783), "ucf101", image_folder=("UCF-101-midframes",),
        split_file="split_zhou_UCF101.json", tfds="ucf101/ucf101_1:2.0.0", archive="ucf101.zip"),
    "imagenetv2": _variant(
        1000, 10000, "imagenetv2", "imagenetv2-matched-frequency-format-val",
        "imagenet_v2/matched-frequency:3.0.0", layout="indices"),
    "imagenet_sketch": _variant(1000, 50889, "imagenet-sketch", "images", "imagenet_sketch:1.0.0"),
    "imagenet_a": _variant(200, 7500, "imagenet-adversarial", "imagenet-a", "imagenet_a:0.1.0"),
    "imagenet_r": _variant(200, 30000, "imagenet-rendition", "imagenet-r", "imagenet_r:0.2.0"),
}
# fmt: on


def find_row(name: str) -> DatasetRow:
    """The row of a data set.

    Raises:
        UserError: there is none of that name; the nearest is told.
    """
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.0)
        raise UserError(
            f"config.data.dataset: no data set is called {show(name)}; there are {', '.join(DATASETS)}. "
            f"The nearest name is {near[0]!r}. 'folder' stands for images of your own, in one folder per class."
        )
    return DATASETS[name]


def ways(row: DatasetRow) -> str:
    """How to get a published data set: all ways, the simplest first, for messages."""
    found = []
    if row.tfds:
        found.append("TFDS, by pip install -e '.[tfds]' and --config.data.source=tfds")
    if row.hub:
        found.append(
            f"the copy {row.hub} on the Hugging Face Hub, with splits of its own, by pip install -e '.[hf]' and "
            "--config.data.source=hf"
        )
    if row.archive:
        found.append(
            f"a copy of CoOp's folder on the hub, by `hf download {ARCHIVES} {row.archive} --local-dir DATA`, unzipped "
            "there, and --config.data.root=DATA"
        )
    found.append(f"CoOp's folder, by {PUBLISHED_AT} and --config.data.root=DATA, the folder above {row.folder}/")
    listed = "; ".join(f"({number}) {way}" for number, way in enumerate(found, start=1))
    note = " This project has not checked the copies on the hub." if row.hub or row.archive else ""
    return f"Ways to get it: {listed}.{note}"
