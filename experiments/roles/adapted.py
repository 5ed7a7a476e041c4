"""Which heads does an adapted model's accuracy need, beside zero-shot CLIP's? Of runs on several draws of classes.

    python -m experiments.roles.adapted runs/methods/base2new-world_compositions* --page=experiments/evidence

writes adapted_heads.md: the area between the curves of accuracy over ever more ablated heads, from the lowest and from
the highest score on (`dear_jax.evaluation.ablation`), of base and new classes, and of every attribute by its own
prompts on shifted scenes; and accuracy with a third, two thirds and all of the heads ablated. Runs are base-to-new
training runs on the embedded CLIP, of one variant or of several, of which the first counts. A minute for each run.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.checkpoints.weights import Backbone, load_backbone
from dear_jax.data import splits
from dear_jax.data.class_set import ClassSet
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.prompts import prompts
from dear_jax.data.world import captions, tasks
from dear_jax.data.world.scenes import NAMES
from dear_jax.evaluation import ablation
from dear_jax.methods import adapter_file
from dear_jax.report.text_tables import to_markdown
from dear_jax.roles import role_map
from experiments.made_by import made_by, sentence, write_page
from experiments.roles.evidence import ABLATION_SCENES
from experiments.roles.truth import scenes

COLUMNS = ("base", "new", *NAMES)
SCORES = {"entropy": "Concept Entropy", "variance": "variance", "attribution": "logit attribution"}
SHARES = (0, 4, 8, 12)  # points of a curve: none, a third, two thirds and all of the heads


def main() -> None:
    """Measure all runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--page", type=Path, default=Path("runs/adapted_heads"), help="folder of adapted_heads.md")
    options = parser.parse_args()
    backbone = load_backbone("embedded")
    found = [measured(run, backbone) for run in options.runs]
    whose = {"adapted": [one["adapted"] for one in found], "zero-shot": [one["zero_shot"] for one in found]}
    names = [run.name for run in options.runs]
    how = sentence(made_by(f"python -m experiments.roles.adapted {' '.join(map(str, options.runs))}"))
    text = (
        f"# Which heads an adapted model's accuracy needs\n\n{how} {len(names)} runs, the mean over the seeds of each, "
        "beside zero-shot CLIP on the same images. Means ± population standard deviation over the runs; attributes by "
        f"their own prompts, on {ABLATION_SCENES:,} shifted scenes. Entropy is that of the shipped role map; means, "
        "variance and attribution are of the training images of the base classes, in all columns.\n\n"
        "Area between the curves of accuracy over ever more ablated heads, from the lowest and from the highest score "
        "on, in points: positive where accuracy needs the heads with a high score. In brackets what two random orders "
        f"differ by, a standard deviation.\n\n{areas(whose)}\n\n"
        f"Accuracy in percent with ever more heads ablated in {found[0]['zero_shot']['base']['orders']} random orders, "
        f"their mean.\n\n{falling(whose)}\n"
    )
    write_page(options.page / "adapted_heads.md", text)


def measured(run: Path, backbone: Backbone) -> dict[str, dict]:
    """Class set -> curves, adapted and zero-shot."""
    trained = adapter_file.load(run).select()
    dataset = tasks.load(trained.dataset)
    base, new = splits.base_new(dataset.train.labels)
    parts = [dataset.keep_classes(classes) for classes in (base, new)]
    classes = {
        name: class_set(part.class_names, part.test, backbone)
        for name, part in zip(("base", "new"), parts, strict=True)
    }
    split, labels = scenes("ablation", ABLATION_SCENES, tasks.SHIFT)
    classes |= {
        name: class_set(captions.attribute_phrases(name), ImageSplit(labels[:, column], split.load), backbone)
        for column, name in enumerate(NAMES)
    }
    images = parts[0].train
    ablation.check(trained, backbone, images)
    shipped = role_map.load(role_map.EMBEDDED)
    found = ablation.measure(trained, backbone, classes, images, shipped, rule=None, batch_size=100)["class_sets"]
    (variant,) = trained.names
    return {
        "adapted": {name: found[name]["variants"][variant] for name in COLUMNS},
        "zero_shot": {name: found[name]["zero_shot"] for name in COLUMNS},
    }


def class_set(names: Sequence[str], test: ImageSplit, backbone: Backbone) -> ClassSet:
    """Names with the prompts of the embedded world."""

    @functools.cache
    def tokenize(template: str) -> np.ndarray:
        return tokenizers.shorten(backbone.tokenizer(prompts(names, template)))

    texts = tuple(prompts(names, tasks.TEMPLATE))
    return ClassSet(tuple(names), "world_scenes", tasks.TEMPLATE, (tasks.TEMPLATE,), texts, tokenize, test)


def areas(whose: dict[str, list[dict]]) -> str:
    """A row per score, for each kind of model."""
    rows = []
    for score, title in SCORES.items():
        for kind, runs in whose.items():
            cells = []
            for name in COLUMNS:
                scores = [run[name]["scores"][score] for run in runs]
                found, chance = ([one[key] for one in scores] for key in ("area", "random_area"))
                cells.append(f"{np.mean(found):+.1f} ± {np.std(found):.1f} (± {np.mean(chance):.1f})")
            rows.append([title, kind, *cells])
    return to_markdown(["score", "model", *COLUMNS], rows)


def falling(whose: dict[str, list[dict]]) -> str:
    """A row per number of heads, for each kind of model."""
    rows = []
    for point in SHARES:
        for kind, runs in whose.items():
            heads = runs[0]["base"]["points"][point]
            values = [[run[name]["random"]["mean"][point] for run in runs] for name in COLUMNS]
            rows.append([str(heads), kind, *(f"{np.mean(of):.1f} ± {np.std(of):.1f}" for of in values)])
    return to_markdown(["heads ablated", "model", *COLUMNS], rows)


if __name__ == "__main__":
    main()
