"""The plan of the job `pretrain`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.data.world.render import SIZE
from dear_jax.errors import UserError, UserErrors
from dear_jax.files.workdir import RunConfig
from dear_jax.setup import keys, ranges, values


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
        UserErrors: it is none of `configs/pretrain_tiny.py`; values that are out of range or do not fit together.
    """
    if "pretrain" not in config:
        raise UserError("config.job=pretrain takes the keys of --config=configs/pretrain_tiny.py; give that file.")
    given = config.pretrain
    wrong = ranges.messages(config, ranges.problems(config))
    if not wrong:
        if given.warmup_steps >= given.steps:
            steps = f"{given.steps} steps"
            wrong.append(f"config.pretrain.warmup_steps is {given.warmup_steps}, expected less than its {steps}")
        if given.dense_layer > given.vision_layers:
            wrong.append(
                f"config.pretrain.dense_layer is {given.dense_layer}, expected one of {given.vision_layers} layers"
            )
        for tower in ("vision", "text"):
            width, heads = given[f"{tower}_width"], given[f"{tower}_heads"]
            if width % heads:
                wrong.append(f"config.pretrain.{tower}_width is {width}, expected a multiple of {tower}_heads, {heads}")
        if SIZE % given.patch_size:
            wrong.append(f"config.pretrain.patch_size is {given.patch_size}, expected a divisor of {SIZE} pixels")
    if wrong:
        raise UserErrors(wrong)
    return values.read(PretrainingPlan, config.pretrain, config=keys.run_config(config))
