"""What finding the roles of heads would work with, for a dry run."""

from typing import Any

from etils import epath
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import prompts
from dear_jax.data.image_dataset import ImageDataset
from dear_jax.methods.dear import patterns
from dear_jax.roles.analysis import sizes
from dear_jax.setup import programs as setup
from dear_jax.setup import roles as setup_roles
from dear_jax.setup import variants as setup_variants


def without_map(config: ConfigDict, backbone: Backbone) -> list[ConfigDict]:
    """The first variant of each role map that the run would make."""
    found: dict[epath.Path, ConfigDict] = {}
    for variant in setup_variants.variant_configs(config).values():
        mask = variant.mask
        if mask.pattern in patterns.MAPPED and not mask.role_map and not mask.file:
            model = setup.make_model(variant, backbone)
            if setup_roles.find_role_map(variant, backbone, model) is None:
                found.setdefault(setup_roles.role_map_path(variant, backbone, model), variant)
    return list(found.values())


def describe_dataset(config: ConfigDict, dataset: ImageDataset) -> dict[str, Any]:
    """Images and classes, and the first prompts, of a data set whose heads are looked at."""
    texts = prompts.prompts(dataset.class_names, config.data.template or dataset.template, dataset.distinct_names)
    return {
        "data set": f"{dataset.name}, source {dataset.notes['source']}, splits: {dataset.notes['splits']}",
        "images": ", ".join(f"{count} {split}" for split, count in dataset.notes["images"].items()),
        "classes": f"{len(dataset.class_names)}: {', '.join(dataset.class_names[:3])}, ...",
        "prompts": "; ".join(map(repr, texts[:3])),
    }


def describe_analysis(config: ConfigDict, backbone: Backbone, dataset: ImageDataset) -> dict[str, Any]:
    """Images, heads, bank and encoder, and the size of the file of contributions.

    Raises:
        UserError: what is wrong with the bank, the settings, or the number of images.
    """
    model = setup.make_model(config, backbone)
    inputs = setup_roles.role_inputs(config, backbone, model, dataset)
    first, tower = model.structure.vision_layer, backbone.config.vision
    heads = (tower.layers - first + 1) * tower.heads
    picked = sizes(backbone, setup_roles.role_options(config))["descriptions"]
    size = 2 * len(inputs.images) * heads * backbone.config.embed_dim  # float16
    return {
        "images": f"{len(inputs.images)} of {len(dataset.train)} training images",
        "heads": f"{heads}, of layers {first} to {tower.layers}",
        "contributions": f"{size / 2**20:,.0f} MiB on disk",
        "bank": f"{len(inputs.texts)} descriptions, {picked} picked for each head",
        "sentence encoder": inputs.encoder.name,
    }
