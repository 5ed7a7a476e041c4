"""From a config to the objects of a job: backbone, programs (model, masks and other settings of the variants).

The jobs call these functions and those of `setup_*.py`; nothing below them reads a config.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data.loading import SOURCES
from dear_jax.errors import UserError
from dear_jax.methods import losses
from dear_jax.methods.dear import fusion, mask, patterns
from dear_jax.methods.dear.model import Model, Settings
from dear_jax.methods.dear.tokens import Start, make_structure
from dear_jax.setup import roles as setup_roles
from dear_jax.setup import variants as setup_variants
from dear_jax.training.optimizer import Rates

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
PROTOCOLS = ("base2new", "few_shot", "cross_dataset", "domain_generalization")
Arrays = TypeVar("Arrays", bound=tuple[Any, ...])


@dataclasses.dataclass(frozen=True)
class Program:
    """Variants of one structure: they train together, as one compiled program."""

    model: Model
    names: tuple[str, ...]  # V variants
    settings: Settings  # leaves [V, ...]
    rates: Rates  # leaves [V]
    starts: tuple[Start, ...]


def check(config: ConfigDict) -> None:
    """Refuse values outside their range, all in one message, in every variant.

    Raises:
        UserError: every offending key with its value and what is expected.
    """
    variants = setup_variants.variant_configs(config).values()
    problems = [problem for variant in variants for problem in _problems(variant)]
    if problems:
        raise UserError("; ".join(dict.fromkeys(problems)) + ".")
    fusion.parse_mode(config.fusion.new_classes)
    setup_roles.role_options(config).check()


def _problems(config: ConfigDict) -> list[str]:
    rules = {
        "protocol": (config.protocol in PROTOCOLS, f"one of {', '.join(PROTOCOLS)}"),
        "seeds": (
            _are_seeds(config.seeds),
            "one or more different integers of 0 to 2^32 - 1, such as 1,2,3",
        ),
        "mask.seed": (config.mask.seed >= 0, "0 or more"),
        "mask.set": (not (config.mask.set and config.mask.file), "none beside config.mask.file, which has all heads"),
        "tokens.beta": (0 <= config.tokens.beta <= 1, "a number in [0, 1]"),
        "loss.reg": (config.loss.reg >= 0, "0 or more"),
        "loss.fusion": (config.loss.fusion >= 0, "0 or more"),
        "loss.reg_form": (config.loss.reg_form in losses.DISTANCES, f"one of {', '.join(losses.DISTANCES)}"),
        "optimizer.learning_rate": (config.optimizer.learning_rate > 0, "a positive number"),
        "optimizer.weight_decay": (config.optimizer.weight_decay >= 0, "0 or more"),
        "optimizer.warmup_epochs": (config.optimizer.warmup_epochs >= 0, "0 or more"),
        "optimizer.warmup_learning_rate": (config.optimizer.warmup_learning_rate >= 0, "0 or more"),
        "train.epochs": (config.train.epochs >= 1, "1 or more"),
        "train.batch_size": (config.train.batch_size >= 1, "1 or more"),
        "train.log_every": (config.train.log_every >= 1, "1 or more"),
        "train.checkpoint_every": (config.train.checkpoint_every >= 0, "0 (once an epoch) or more"),
        "train.keep_checkpoints": (config.train.keep_checkpoints >= 1, "1 or more"),
        "eval.batch_size": (config.eval.batch_size >= 1, "1 or more"),
        "predict.shown": (config.predict.shown >= 0, "0 or more"),
        "retrieve.queries": (config.retrieve.queries >= 1, "1 or more"),
        "retrieve.seed": (config.retrieve.seed >= 0, "0 or more"),
        "retrieve.top": (config.retrieve.top >= 1, "1 or more"),
        "retrieve.shown": (config.retrieve.shown >= 1, "1 or more"),
        "data.source": (config.data.source in SOURCES, f"one of {', '.join(SOURCES)}"),
        "data.shots": (config.data.shots >= 1, "1 or more training images per class"),
        "data.crop_scale": (
            _are_shares(config.data.crop_scale),
            "the least and the greatest area share of the random crop, 0 < least <= greatest <= 1",
        ),
        "data.workers": (config.data.workers >= 0, "0 or more"),
        "data.cache_gb": (config.data.cache_gb >= 0, "0 or more"),
        "compute.class_chunk": (config.compute.class_chunk >= 0, "0 (as many as fit) or more"),
        "compute.dtype": (config.compute.dtype in DTYPES, f"one of {', '.join(DTYPES)}"),
    }
    return [
        f"config.{key} is {_lookup(config, key)!r}, expected {expected}"
        for key, (valid, expected) in rules.items()
        if not valid
    ]


def check_mesh(config: ConfigDict, devices: int) -> None:
    """Refuse a mesh that does not fit the devices.

    Raises:
        UserError: `config.compute.mesh` is not empty and not two sizes whose product is their number.
    """
    shape = config.compute.mesh
    if shape and not (len(shape) == 2 and min(shape) >= 1 and shape[0] * shape[1] == devices):
        fitting = [(run, devices // run) for run in range(1, devices + 1) if devices % run == 0]
        raise UserError(
            f"config.compute.mesh is {tuple(shape)}, expected the sizes of the axes run and data, whose product is the "
            f"{devices} device{'s' * (devices > 1)} of this job: one of {', '.join(map(str, fitting))}, or () to have "
            "it chosen."
        )


def _are_seeds(seeds: Sequence[int]) -> bool:
    return 0 < len(seeds) == len(set(seeds)) and all(isinstance(s, int) and 0 <= s < 2**32 for s in seeds)


def _are_shares(scale: Sequence[float]) -> bool:
    return len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1


def _lookup(config: ConfigDict, key: str) -> object:
    for part in key.split("."):
        config = config[part]
    return config


def load_backbone(config: ConfigDict) -> Backbone:
    """The frozen CLIP that the config names."""
    return weights.load_backbone(config.backbone, config.image_size)


def make_model(config: ConfigDict, backbone: Backbone) -> Model:
    """The static structure of the adaptation of one variant."""
    structure = make_structure(
        backbone.config,
        attributes=tuple(config.tokens.attributes),
        text_count=config.tokens.text_count,
        vision_layer=config.tokens.vision_layer,
        text_layer=config.tokens.text_layer,
        shared_projection=config.tokens.shared_projection,
    )
    return Model(
        backbone.config,
        structure,
        DTYPES[config.compute.dtype],
        config.loss.reg_form,
        class_chunk=config.compute.class_chunk,
    )


def make_programs(variants: Mapping[str, ConfigDict], backbone: Backbone) -> tuple[Program, ...]:
    """The variants (`setup_variants.variant_configs`), in their order but for those that join an earlier program."""
    groups: dict[Model, dict[str, ConfigDict]] = {}
    for name, variant in variants.items():
        groups.setdefault(make_model(variant, backbone), {})[name] = variant
    return tuple(
        Program(
            model,
            names=tuple(group),
            settings=_stack([_make_settings(variant, backbone, model) for variant in group.values()]),
            rates=_stack([_make_rates(variant) for variant in group.values()]),
            starts=tuple(_make_start(variant) for variant in group.values()),
        )
        for model, group in groups.items()
    )


def _make_settings(config: ConfigDict, backbone: Backbone, model: Model) -> Settings:
    return Settings(
        head_mask=jnp.asarray(_head_mask(config, backbone, model)),
        beta=jnp.float32(config.tokens.beta),
        reg_weight=jnp.float32(config.loss.reg),
        fusion_weight=jnp.float32(config.loss.fusion),
    )


def _make_rates(config: ConfigDict) -> Rates:
    return Rates(*(jnp.float32(config.optimizer[name]) for name in Rates._fields))


def _make_start(config: ConfigDict) -> Start:
    return Start(
        init_std=config.tokens.init_std,
        class_start=config.fusion.class_start,
        projection_init=config.tokens.projection_init,
        seed=config.tokens.init_seed,
    )


def _stack(variants: Sequence[Arrays]) -> Arrays:
    """V variants on a leading axis."""
    return type(variants[0])(*(jnp.stack(leaves) for leaves in zip(*variants, strict=True)))


def _head_mask(config: ConfigDict, backbone: Backbone, model: Model) -> np.ndarray:
    tower, structure = model.config.vision, model.structure
    layers = tower.layers - structure.vision_layer + 1
    originals = 1 + model.config.patches
    if config.mask.file:
        length = originals + structure.count
        return mask.load(config.mask.file, (layers, tower.heads, length, length))
    pattern, seed = config.mask.pattern, config.mask.seed
    if pattern in patterns.MAPPED:
        roles = patterns.mapped_roles(pattern, setup_roles.mapped_roles(config, backbone, model), seed)
    else:
        roles = patterns.plain_roles(pattern, layers, tower.heads, structure.attributes, seed)
    roles = patterns.set_heads(roles, config.mask.set, structure.vision_layer, structure.attributes)
    return mask.build(roles, structure.attributes, originals, config.mask.own_token_alone)
