"""From a config to the objects of a job: backbone, model, mask and other settings, classes and images.

The jobs call these functions; nothing below them reads a config.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dear_jax import losses, setup_roles
from dear_jax.adapt import mask
from dear_jax.adapt.model import Model, Settings
from dear_jax.adapt.tokens import make_structure
from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.weights import Backbone, load_backbone
from dear_jax.data import prompts, splits
from dear_jax.data.datasets import load_dataset
from dear_jax.data.sources import ImageDataset, ImageSplit
from dear_jax.errors import UserError

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
PROTOCOLS = ("base2new",)


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """Classes that are told apart from each other, and their test images."""

    class_names: tuple[str, ...]
    template: str
    token_ids: np.ndarray  # int32 [C, T], cut to the longest prompt
    test: ImageSplit


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training run learns from and is measured on."""

    train: tuple[ImageSplit, ...]  # one few-shot draw per seed
    classes: dict[str, ClassSet]  # the first is the one trained on

    @property
    def trained_on(self) -> ClassSet:
        """The classes of the training images."""
        return next(iter(self.classes.values()))


def check(config: ConfigDict) -> None:
    """Refuse values outside their range, all in one message.

    Raises:
        UserError: every offending key with its value and what is expected.
    """
    rules = {
        "protocol": (config.protocol in PROTOCOLS, f"one of {', '.join(PROTOCOLS)}"),
        "seeds": (
            _are_seeds(config.seeds),
            "one or more different integers of 0 to 2^32 - 1, such as 1,2,3",
        ),
        "tokens.beta": (0 <= config.tokens.beta <= 1, "a number in [0, 1]"),
        "loss.reg": (config.loss.reg >= 0, "0 or more"),
        "loss.fusion": (config.loss.fusion >= 0, "0 or more"),
        "loss.reg_form": (config.loss.reg_form in losses.DISTANCES, f"one of {', '.join(losses.DISTANCES)}"),
        "optimizer.learning_rate": (config.optimizer.learning_rate > 0, "a positive number"),
        "optimizer.weight_decay": (config.optimizer.weight_decay >= 0, "0 or more"),
        "optimizer.warmup_epochs": (config.optimizer.warmup_epochs >= 0, "0 or more"),
        "optimizer.warmup_learning_rate": (config.optimizer.warmup_learning_rate >= 0, "0 or more"),
        "train.log_every": (config.train.log_every >= 1, "1 or more"),
        "train.checkpoint_every": (config.train.checkpoint_every >= 0, "0 (once an epoch) or more"),
        "train.keep_checkpoints": (config.train.keep_checkpoints >= 1, "1 or more"),
        "eval.batch_size": (config.eval.batch_size >= 1, "1 or more"),
        "data.workers": (config.data.workers >= 0, "0 or more"),
        "compute.dtype": (config.compute.dtype in DTYPES, f"one of {', '.join(DTYPES)}"),
    }
    problems = [
        f"config.{key} is {_lookup(config, key)!r}, expected {expected}"
        for key, (valid, expected) in rules.items()
        if not valid
    ]
    if problems:
        raise UserError("; ".join(problems) + ".")
    setup_roles.role_options(config).check()


def _are_seeds(seeds: Sequence[int]) -> bool:
    return 0 < len(seeds) == len(set(seeds)) and all(isinstance(s, int) and 0 <= s < 2**32 for s in seeds)


def _lookup(config: ConfigDict, key: str) -> object:
    for part in key.split("."):
        config = config[part]
    return config


def load_model(config: ConfigDict) -> tuple[Backbone, Model]:
    """The frozen CLIP and the static structure of its adaptation."""
    backbone = load_backbone(config.backbone)
    structure = make_structure(
        backbone.config,
        attributes=tuple(config.tokens.attributes),
        text_count=config.tokens.text_count,
        vision_layer=config.tokens.vision_layer,
        text_layer=config.tokens.text_layer,
        init_std=config.tokens.init_std,
        class_start=config.fusion.class_start,
        projection_init=config.tokens.projection_init,
        shared_projection=config.tokens.shared_projection,
    )
    return backbone, Model(backbone.config, structure, DTYPES[config.compute.dtype], config.loss.reg_form)


def make_settings(config: ConfigDict, backbone: Backbone, model: Model) -> Settings:
    """The array inputs of the one variant of a plain run, without a variant axis."""
    return Settings(
        head_mask=jnp.asarray(_head_mask(config, backbone, model)),
        beta=jnp.float32(config.tokens.beta),
        reg_weight=jnp.float32(config.loss.reg),
        fusion_weight=jnp.float32(config.loss.fusion),
    )


def stack_settings(settings: Sequence[Settings]) -> Settings:
    """V variants on a leading axis."""
    return Settings(*(jnp.stack(leaves) for leaves in zip(*settings, strict=True)))


def _head_mask(config: ConfigDict, backbone: Backbone, model: Model) -> np.ndarray:
    tower, structure = model.config.vision, model.structure
    layers = tower.layers - structure.vision_layer + 1
    originals = 1 + model.config.patches
    if config.mask.file:
        length = originals + structure.count
        return mask.load(config.mask.file, (layers, tower.heads, length, length))
    if config.mask.pattern == "roles":
        roles = setup_roles.mapped_roles(config, backbone, model)
    else:
        roles = mask.pattern_roles(config.mask.pattern, layers, tower.heads, structure.attributes, config.mask.seed)
    roles = mask.set_heads(roles, config.mask.set, structure.vision_layer, structure.attributes)
    return mask.build(roles, structure.attributes, originals, config.mask.own_token_alone)


def load_task(config: ConfigDict, backbone: Backbone) -> Task:
    """The few-shot draws and the class sets of the config's protocol and data set.

    Base-to-new (METHOD.md section 5): CoOp's draw over all classes, then the base half for training; base and new
    are each classified among their own classes.
    """
    dataset = load_dataset(config.data.dataset, config.data.root)
    _report_short_classes(dataset, config.data.shots)
    halves = dict(zip(("base", "new"), splits.base_new(dataset.train.labels), strict=True))
    train = []
    for seed in config.seeds:
        drawn, _ = splits.few_shot(dataset.train.labels, dataset.val.labels, config.data.shots, seed)
        train.append(dataset.train.subset(drawn).keep_classes(halves["base"]))
    template = config.data.template or dataset.template
    classes = {name: _class_set(dataset.keep_classes(labels), template, backbone) for name, labels in halves.items()}
    return Task(tuple(train), classes)


def _class_set(dataset: ImageDataset, template: str, backbone: Backbone) -> ClassSet:
    token_ids = backbone.tokenizer(prompts.prompts(dataset.class_names, template))
    return ClassSet(dataset.class_names, template, tokenizers.shorten(token_ids), dataset.test)


def _report_short_classes(dataset: ImageDataset, shots: int) -> None:
    short = splits.short_classes(dataset.train.labels, shots)
    if short:
        names = ", ".join(dataset.class_names[label] for label in short)
        print(
            f"Warning: {len(short)} classes have fewer than {shots} training images and give all that they have: "
            f"{names}.",
            flush=True,
        )
