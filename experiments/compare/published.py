"""Published accuracies, read from `published.csv`: CLIP ViT-B/16, 16 shots, each with its source.

What a reader must know of a row beside its source, such as a slip of the print or other training data, is its `note`,
which tables put below them.
"""

import csv
from pathlib import Path

from dear_jax.report.blocks import Cell, Row
from dear_jax.setup import departures

FILE = Path(__file__).with_name("published.csv")
SHOTS, SEEDS = departures.SHOTS, len(departures.SEEDS)
SETTING = "ViT-B/16 16-shot"
PROTOCOLS = {
    f"base-to-new {SETTING}": "base2new",
    f"cross-dataset {SETTING} ImageNet source": "cross_dataset",
    f"domain generalization {SETTING} ImageNet source": "domain_generalization",
}
DATASETS = {
    "ImageNet": "imagenet",
    "Caltech101": "caltech101",
    "OxfordPets": "oxford_pets",
    "StanfordCars": "stanford_cars",
    "Flowers102": "oxford_flowers",
    "Food101": "food101",
    "FGVCAircraft": "fgvc_aircraft",
    "SUN397": "sun397",
    "DTD": "dtd",
    "EuroSAT": "eurosat",
    "UCF101": "ucf101",
}
AVERAGE = "average"
PLACES = {
    **DATASETS,
    "ImageNet(source)": "imagenet",
    "ImageNetV2": "imagenetv2",
    "ImageNet-Sketch": "imagenet_sketch",
    "ImageNet-A": "imagenet_a",
    "ImageNet-R": "imagenet_r",
    "Average11": AVERAGE,
    "Average10targets": AVERAGE,
    "Average4targets": AVERAGE,
}


def read_published() -> dict[str, dict[str, dict[str, Row]]]:
    """Protocol -> method -> data set or "average" -> cells by metric (base, new, hm; accuracy)."""
    found: dict[str, dict[str, dict[str, Row]]] = {protocol: {} for protocol in PROTOCOLS.values()}
    with FILE.open(newline="") as file:
        for line in csv.DictReader(file):
            method = found[PROTOCOLS[line["protocol"]]].setdefault(line["method"], {})
            notes = (line["note"],) if line["note"] else ()
            cell = Cell(float(line["value"]), notes=notes, source=line["source"], competes=not notes)
            method.setdefault(PLACES[line["dataset"]], {})[line["metric"].lower()] = cell
    return found
