"""Zero-shot accuracy when the direct contributions of some heads are replaced by their means (`decompose.ablate`)."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import pipeline
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.parallel import sharding
from dear_jax.roles.decompose import ablate, decompose
from dear_jax.roles.role_map import Roles


def means(contributions: Float[np.ndarray, "images n H d"]) -> Float[np.ndarray, "n H d"]:
    """Mean contribution of each head, in float64 sums."""
    return np.asarray(np.mean(contributions, axis=0, dtype=np.float64), np.float32)


def each_head(roles: Roles) -> Bool[np.ndarray, "sets n H"]:
    """The empty set, then each head alone."""
    shape = (len(roles), len(roles[0]))
    count = shape[0] * shape[1]
    return np.concatenate([np.zeros((1, count), bool), np.eye(count, dtype=bool)]).reshape(-1, *shape)


def each_role(roles: Roles, kinds: Sequence[str]) -> Bool[np.ndarray, "sets n H"]:
    """All heads of each role."""
    return np.array([[[role == kind for role in row] for row in roles] for kind in kinds])


def accuracies(
    backbone: Backbone, split: ImageSplit, classes: Float[np.ndarray, "C d"], **options: Any
) -> list[float]:
    """Top-1 in percent under the ablation of each of the sets of heads; arguments as those of `predictions`."""
    predicted = predictions(backbone, split, classes, **options)
    return [100.0 * float(right) / len(split) for right in (predicted == split.labels).sum(axis=-1)]


def predictions(
    backbone: Backbone,
    split: ImageSplit,
    classes: Float[np.ndarray, "C d"],
    *,
    first_layer: int,
    means: Float[np.ndarray, "n H d"],
    ablated: Bool[np.ndarray, "sets n H"],
    batch_size: int,
    workers: int = 0,
) -> Int[np.ndarray, "sets images"]:
    """The class that is predicted of each image under the ablation of each of the sets of heads.

    Each image is decomposed once. All processes of a job call this, and share the images out.

    Args:
        backbone: the CLIP.
        split: labelled images.
        classes: unit text feature of each class.
        first_layer: J, counted from 1, of the layers that `means` and `ablated` are about.
        means: mean contribution of each head.
        ablated: sets of heads.
        batch_size: images at a time.
        workers: processes that prepare images.
    """
    config, mesh = backbone.config, sharding.data_mesh()
    params = sharding.place(backbone.params, mesh, sharding.REPLICATED)
    (batch_size,) = sharding.filled((batch_size,), mesh, sharding.DATA)
    own = sharding.own_entries((batch_size,), mesh, sharding.DATA)

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, sharding.REPLICATED))
    def predict(params: dict, images: Array) -> Array:
        parts = decompose(params, config, vision.normalize(images, config), first_layer)
        changed = ablate(parts.total(), parts.heads, jnp.asarray(means), jnp.asarray(ablated))
        return jnp.argmax(jnp.einsum("bsd,cd->bsc", changed, jnp.asarray(classes)), axis=-1)

    found = [
        np.asarray(predict(params, sharding.place(batch["image"], mesh, sharding.DATA)))
        for batch in pipeline.eval_batches(split, batch_size, config.image_size, workers, own=own)
    ]
    return np.concatenate(found)[: len(split)].T
