"""Does zero-shot CLIP do better on the unkind tasks without the heads of a role? On five draws of each, no training.

    python -m experiments.roles.unkind --page=experiments/evidence

writes unkind.md: on `world_spurious` the accuracy and that of the worst group without the heads of each role, as
Gandelsman et al. (arXiv 2310.05916, section 5) do it on Waterbirds; on `world_stickers` and `world_words` the accuracy
and how many pictures are taken for what their mark shows; on `world_unmarked` what it costs where nothing is unkind.
Heads are ablated to their mean over the draw's training images; 30 random sets of as many heads stand beside each role.
"""

import argparse
import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dear_jax.clip.checkpoints.weights import Backbone, load_backbone
from dear_jax.data import prompts, splits
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.world import tasks
from dear_jax.evaluation.metrics import accuracy, worst_group
from dear_jax.report.text_tables import to_markdown
from dear_jax.roles import ablation, contributions, role_map, sentences
from experiments.made_by import made_by, sentence, write_page
from experiments.roles.evidence import FIRST_LAYER

TRAINING_IMAGES = 400  # for the means
Measure = Callable[[np.ndarray, ImageSplit, tuple[str, ...]], np.ndarray]  # predicted classes [sets, N] -> percent


def main() -> None:
    """Measure all draws of all tasks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=Path("runs/unkind"), help="folder of unkind.md")
    parser.add_argument("--draws", type=int, default=5, help="of classes, of each task")
    options = parser.parse_args()
    backbone, roles = load_backbone("embedded"), role_map.load(role_map.EMBEDDED).roles
    kinds = [*sorted({role for row in roles for role in row}), "all"]
    groups = np.concatenate([ablation.each_role(roles, kinds[:-1]), np.ones((1, *np.shape(roles)), bool)])
    nothing = np.zeros_like(groups[:1])
    controls = [ablation.random_sets(int(group.sum()), group.shape) for group in groups]
    sets = np.concatenate([nothing, groups, *controls])
    columns = {
        f"{title}, {name}": np.mean([values[name] for values in of_task], axis=0)
        for title, of_task in measured(backbone, sets, options.draws).items()
        for name in of_task[0]
    }
    rows = [["nothing", "0", *(f"{values[0]:.1f}" for values in columns.values())]]
    for index, (kind, group) in enumerate(zip(kinds, groups, strict=True)):
        start = 1 + len(groups) + index * ablation.CONTROLS
        cells = [
            f"{values[1 + index]:.1f} ({values[start : start + ablation.CONTROLS].mean():.1f} ± "
            f"{values[start : start + ablation.CONTROLS].std():.1f})"
            for values in columns.values()
        ]
        rows.append([kind, str(int(group.sum())), *cells])
    how = sentence(made_by("python -m experiments.roles.unkind"))
    text = (
        f"# Heads ablated on the unkind tasks, zero-shot\n\n{how} percent, means over {options.draws} draws of classes "
        f"and both halves of each; in parentheses {ablation.CONTROLS} random sets of as many heads, mean ± standard "
        f"deviation. *Fooled*: of the pictures with a mark, those taken for what it names or shows.\n\n"
        f"{to_markdown(['ablated', 'heads', *columns], rows)}\n"
    )
    write_page(options.page / "unkind.md", text)


def measured(backbone: Backbone, sets: np.ndarray, draws: int) -> dict[str, list[dict[str, np.ndarray]]]:
    """Of each task, for every draw and half of its classes: percent [sets] by name."""
    wanted: dict[str, Mapping[str, Measure]] = {
        "world_spurious": {"accuracy": _accuracy, "worst group": _worst_group},
        "world_stickers": {"accuracy": _accuracy, "fooled": functools.partial(_fooled, mark="sticker")},
        "world_words": {"accuracy": _accuracy, "fooled": functools.partial(_fooled, mark="word")},
        "world_unmarked": {"accuracy": _accuracy},
    }
    found: dict[str, list[dict[str, np.ndarray]]] = {}
    for name, measures in wanted.items():
        for draw in tasks.draws(name)[:draws]:
            dataset = tasks.load(draw)
            shown = dataset.train.subset(np.arange(min(TRAINING_IMAGES, len(dataset.train))))
            with tempfile.TemporaryDirectory() as folder:
                array = contributions.stream(backbone, shown, FIRST_LAYER, folder=Path(folder), batch_size=50)
                means = ablation.means(array)
            for classes in splits.base_new(dataset.train.labels):
                part = dataset.keep_classes(classes)
                predicted, _ = ablation.predictions(
                    backbone,
                    part.test,
                    sentences.encode_texts(backbone, prompts.prompts(part.class_names, tasks.TEMPLATE)),
                    first_layer=FIRST_LAYER,
                    means=means,
                    ablated=sets,
                    batch_size=50,
                )
                values = {key: of(predicted, part.test, part.class_names) for key, of in measures.items()}
                found.setdefault(name, []).append(values)
    return found


def _accuracy(predicted: np.ndarray, split: ImageSplit, names: tuple[str, ...]) -> np.ndarray:
    return accuracy(predicted, split.labels, len(names))


def _worst_group(predicted: np.ndarray, split: ImageSplit, names: tuple[str, ...]) -> np.ndarray:
    assert split.groups is not None
    return worst_group(predicted, split.labels, split.groups)


def _fooled(predicted: np.ndarray, split: ImageSplit, names: tuple[str, ...], mark: str) -> np.ndarray:
    return 100.0 * (np.array(names)[predicted] == split.attributes[mark]).mean(axis=-1)


if __name__ == "__main__":
    main()
