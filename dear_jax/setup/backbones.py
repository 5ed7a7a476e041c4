"""Which frozen CLIP a job uses, and how its towers compute."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.weights import Backbone

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class BackbonePlan:
    """Keys of the config."""

    name: str  # packaged, a folder, or a hub name
    image_size: int | None  # pixels; None: the checkpoint's
    dtype: str  # of the towers, a key of DTYPES
    class_chunk: int  # class prompts at a time; 0: as many as fit
    shard: bool  # spread its larger matrices over devices

    @property
    def compute_dtype(self) -> Any:
        """The dtype of the towers."""
        return DTYPES[self.dtype]


def read(config: ConfigDict) -> BackbonePlan:
    """The plan of a config."""
    compute = config.compute
    return BackbonePlan(
        config.backbone,
        config.image_size,
        compute.dtype,
        compute.class_chunk,
        compute.shard_backbone,
    )


def load(plan: BackbonePlan) -> Backbone:
    """The frozen CLIP.

    Raises:
        UserError: it cannot be found or read.
    """
    return weights.load_backbone(plan.name, plan.image_size)
