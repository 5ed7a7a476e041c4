"""Dry runs: what a plan would do, and everything that is wrong with it, all at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from dear_jax.clip.checkpoints.weights import Backbone, parameter_count
from dear_jax.data.class_set import ClassSet
from dear_jax.data.image_dataset import ImageDataset
from dear_jax.errors import UserError, UserErrors, count
from dear_jax.methods.adapter_file import Trained
from dear_jax.roles import analysis
from dear_jax.setup.roles import RolePlan

Result = TypeVar("Result")


class Description:
    """Sections that are printed as they come, and problems that are raised together at the end."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def attempt(self, action: Callable[..., Result], *arguments: Any) -> Result | None:
        """The result of an action, or None where a user's mistake ends it, which is noted."""
        try:
            return action(*arguments)
        except UserErrors as error:
            self.problems.extend(error.problems)
        except UserError as error:
            self.problems.append(str(error))
        return None

    def section(self, title: str, rows: Mapping[str, Any] | None) -> None:
        """Print a title and rows; nothing where there are none."""
        if rows:
            print_rows(title, rows)

    def finish(self) -> None:
        """Say that all is well.

        Raises:
            UserError: every problem found, in one message.
        """
        problems = list(dict.fromkeys(self.problems))
        if problems:
            listed = "\n".join(f"  {n}. {p}" for n, p in enumerate(problems, start=1))
            raise UserError(f"{count(len(problems), 'problem')} found.\n{listed}")
        print("No problem found.")


def print_rows(title: str, rows: Mapping[str, Any]) -> None:
    """A title, and an indented line for each row."""
    width = max(map(len, rows))
    print(title)
    print("\n".join(f"  {key:<{width}}  {value}" for key, value in rows.items()), flush=True)


def describe_seeds(seeds: Sequence[int]) -> str:
    """Of whose probabilities or logits the mean is given."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of the seeds {', '.join(map(str, seeds))}"


def describe_run(trained: Trained) -> dict[str, Any]:
    """The trained adapters that are evaluated."""
    return {
        "trained on": f"{trained.dataset}, {count(len(trained.class_names), 'class')}"
        + (f" of {len(trained.class_names) + len(trained.other_classes)}" if trained.other_classes else "")
        + f", {count(trained.shots, 'shot')}",
        "backbone": f"{trained.backbone} ({trained.fingerprint})",
        "seeds": ", ".join(map(str, trained.seeds)),
        "variants": ", ".join(trained.names),
    }


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """Architecture and identity."""
    config = backbone.config
    return {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "parameters": f"{parameter_count(backbone.params):,}",
        "image": f"{config.image_size} pixels in patches of {config.patch_size}",
        "vision": f"{config.vision.layers} layers, {config.vision.heads} heads, width {config.vision.width}",
        "text": f"{config.text.layers} layers, {config.text.heads} heads, width {config.text.width}",
        "activation": f"{config.vision.activation} (vision), {config.text.activation} (text)",
    }


def describe_data(classes: Mapping[str, ClassSet], data: Mapping[str, Any]) -> dict[str, Any]:
    """Images, classes and the first prompts with their lengths."""
    rows: dict[str, Any] = {
        "data set": f"{data['name']}, source {data['source']}, splits: {data['splits']}",
        "images": ", ".join(f"{images} {split}" for split, images in data["images"].items()),
        "comparable": f"{'yes' if data['comparable'] else 'not'} with published tables. {data['remark']}".strip(),
    }
    if "shots_file" in data:
        drawn = "drawn by the seeds" if data["shots_file"]["drawn_by_seed"] else "others than the seeds draw"
        rows["shots"] = f"those of {data['shots_file']['file']}, {drawn}"
    if "skipped" in data:
        left_out = data["skipped"]["images"]
        rows["left out"] = f"{count(len(left_out), 'image')}{': ' if left_out else ''}{' '.join(left_out[:10])}"
    for name, class_set in classes.items():
        per_class = np.bincount(class_set.test.labels, minlength=len(class_set.class_names))
        rows[f"{name} classes"] = (
            f"{len(class_set.class_names)}, with {count(len(class_set.test), 'test image')}, "
            f"{per_class.min()} to {per_class.max()} each"
        )
        names = class_set.class_names
        rows[f"{name} names"] = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lengths = np.count_nonzero(class_set.token_ids[:3], axis=1)
        rows[f"{name} prompts"] = "; ".join(
            f"{text!r} ({length} tokens)" for text, length in zip(class_set.prompts, lengths, strict=False)
        )
        rows[f"{name} context"] = f"{class_set.token_ids.shape[1]} tokens, cut to the longest prompt"
    return rows


def describe_dataset(dataset: ImageDataset, prompts: list[str]) -> dict[str, Any]:
    """Images and classes, and the first prompts, of a data set whose heads are looked at."""
    return {
        "data set": f"{dataset.name}, source {dataset.notes['source']}, splits: {dataset.notes['splits']}",
        "images": ", ".join(f"{images} {split}" for split, images in dataset.notes["images"].items()),
        "classes": f"{len(dataset.class_names)}: {', '.join(dataset.class_names[:3])}, ...",
        "prompts": "; ".join(map(repr, prompts[:3])),
    }


def describe_analysis(
    plan: RolePlan, backbone: Backbone, dataset: ImageDataset, first_layer: int, attributes: tuple[str, ...]
) -> dict[str, Any]:
    """Images, heads, bank and encoder of an analysis of heads, and the size of the file of contributions.

    Raises:
        UserError: what is wrong with the bank, the settings, or the number of images.
    """
    inputs = analysis.prepare(backbone, dataset.train, attributes, plan.options)
    tower = backbone.config.vision
    heads = (tower.layers - first_layer + 1) * tower.heads
    picked = analysis.sizes(backbone, plan.options)["descriptions"]
    size = 2 * len(inputs.images) * heads * backbone.config.embed_dim  # float16
    return {
        "images": f"{len(inputs.images)} of {len(dataset.train)} training images",
        "heads": f"{heads}, of layers {first_layer} to {tower.layers}",
        "contributions": f"{size / 2**20:,.0f} MiB on disk",
        "bank": f"{len(inputs.texts)} descriptions, {picked} picked for each head",
        "sentence encoder": inputs.encoder.name,
    }
