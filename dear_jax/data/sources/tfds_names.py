"""Class names of tensorflow-datasets, some of them made for machines, to those that CoOp's split files have."""

import re
from collections.abc import Callable, Mapping, Sequence

EUROSAT = {
    "AnnualCrop": "Annual Crop Land",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "SeaLake": "Sea or Lake",
}
# None: no class of the benchmark.
CALTECH = {
    "background_google": None,
    "faces_easy": None,
    "airplanes": "airplane",
    "faces": "face",
    "leopards": "leopard",
    "motorbikes": "motorbike",
}


def _year_first(name: str) -> str:
    model, _, year = name.rpartition(" ")
    return f"{year} {model}"


def _words_apart(name: str) -> str:
    return "_".join(re.findall("[A-Z][^A-Z]*", name))


def _innermost_first(name: str) -> str:
    return " ".join(reversed(name.split("/")[2:]))


READABLE: Mapping[str, Callable[[str], str | None]] = {
    "caltech101": lambda name: CALTECH.get(name, name),
    "eurosat": lambda name: EUROSAT.get(name, name),
    "oxford_flowers": lambda name: name.rstrip("?"),  # 'pink-yellow dahlia?'
    "oxford_pets": str.lower,
    "stanford_cars": _year_first,  # 'Audi TT Hatchback 2011'
    "sun397": _innermost_first,  # '/c/church/outdoor'
    "ucf101": _words_apart,  # 'ApplyEyeMakeup'
}


def readable(dataset: str, names: Sequence[str], wnid_names: Mapping[str, str]) -> list[str | None]:
    """One name per label of TFDS; None for a label that is no class of the benchmark.

    Args:
        dataset: its row in the table.
        names: TFDS's.
        wnid_names: for ImageNet and its variants, WordNet id -> name.
    """
    if wnid_names:
        return [wnid_names.get(name, name) for name in names]
    change = READABLE.get(dataset, lambda name: name)
    return [change(name) for name in names]
