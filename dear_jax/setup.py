"""From a config to the objects of a job: backbone, model, mask and other settings.

The jobs call these functions and those of `setup_data.py` and `setup_roles.py`; nothing below them reads a config.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dear_jax import losses, setup_roles
from dear_jax.adapt import mask
from dear_jax.adapt.model import Model, Settings
from dear_jax.adapt.tokens import make_structure
from dear_jax.clip.weights import Backbone, load_backbone
from dear_jax.data.loading import SOURCES
from dear_jax.errors import UserError

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
PROTOCOLS = ("base2new",)


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
        "data.source": (config.data.source in SOURCES, f"one of {', '.join(SOURCES)}"),
        "data.workers": (config.data.workers >= 0, "0 or more"),
        "data.cache_gb": (config.data.cache_gb >= 0, "0 or more"),
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
    backbone = load_backbone(config.backbone, config.image_size)
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
