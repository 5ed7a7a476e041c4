"""The plan of the job `pretrain`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.errors import UserError
from dear_jax.files.workdir import RunConfig
from dear_jax.setup import keys, values


@dataclasses.dataclass(frozen=True)
class PretrainingPlan:
    """The keys of `config.pretrain`; configs/pretrain_tiny.py has their meaning."""

    config: RunConfig
    seed: int
    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    attribute_weight: float
    dense_weight: float
    dense_layer: int
    patch_size: int
    embed_dim: int
    vision_width: int
    vision_layers: int
    vision_heads: int
    text_width: int
    text_layers: int
    text_heads: int
    context_length: int
    log_every: int
    eval_every: int
    eval_scenes: int

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return "pretrain"


def make_plan(config: ConfigDict) -> PretrainingPlan:
    """The plan of a config.

    Raises:
        UserError: it is none of `configs/pretrain_tiny.py`.
    """
    if "pretrain" not in config:
        raise UserError("config.job=pretrain takes the keys of --config=configs/pretrain_tiny.py; give that file.")
    return values.read(PretrainingPlan, config.pretrain, config=keys.run_config(config))
