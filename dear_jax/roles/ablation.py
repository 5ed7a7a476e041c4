"""Zero-shot accuracy when the direct contributions of some heads are replaced by their means (`decompose.ablate`)."""

import dataclasses
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
from dear_jax.files import progress_bar
from dear_jax.parallel import processes, sharding
from dear_jax.roles.decompose import ablate, decompose
from dear_jax.roles.role_map import Roles

CONTROLS = 30  # random sets of heads beside each set that means something


@dataclasses.dataclass(frozen=True)
class Effects:
    """What zero-shot classification loses under the ablation of sets of heads; the first set is empty."""

    images: int
    accuracy: Float[np.ndarray, "sets"]  # percent
    lost: Float[np.ndarray, "sets"]  # images that are right with all heads and wrong under the ablation
    gained: Float[np.ndarray, "sets"]  # the reverse
    margin: Float[np.ndarray, "sets"]  # mean over images: 100 cosine of the true class, less the best other class's

    @property
    def change(self) -> Float[np.ndarray, "sets"]:
        """Of the accuracy, in points."""
        return 100 * (self.gained - self.lost) / self.images

    @property
    def error(self) -> Float[np.ndarray, "sets"]:
        """Standard error of the change, in points: of a mean over images of -1 (lost), 0 and 1 (gained)."""
        share = (self.gained - self.lost) / self.images
        return 100 * np.sqrt(((self.gained + self.lost) / self.images - share**2) / self.images)


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


def random_sets(size: int, shape: tuple[int, int], count: int = CONTROLS) -> Bool[np.ndarray, "sets n H"]:
    """Sets of `size` heads, drawn from all; the same for the same size."""
    generator, total = np.random.default_rng(size), shape[0] * shape[1]
    return np.stack([generator.permutation(np.arange(total) < size).reshape(shape) for _ in range(count)])


def effects(backbone: Backbone, split: ImageSplit, classes: Float[np.ndarray, "C d"], **options: Any) -> Effects:
    """Zero-shot classification under the ablation of each of the sets of heads; arguments as those of `predictions`."""
    predicted, margins = predictions(backbone, split, classes, **options)
    right = predicted == split.labels
    lost = (right[:1] & ~right).sum(axis=1, dtype=float)
    gained = (right & ~right[:1]).sum(axis=1, dtype=float)
    return Effects(len(split), 100 * right.mean(axis=1), lost, gained, 100 * margins.mean(axis=1, dtype=np.float64))


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
) -> tuple[Int[np.ndarray, "sets images"], Float[np.ndarray, "sets images"]]:
    """Zero-shot classification of each image under the ablation of each of the sets of heads.

    Each image is decomposed once. All processes of a job call this, and share the images out.

    Args:
        backbone: the CLIP.
        split: labelled images.
        classes: unit text feature of each class, two or more.
        first_layer: J, counted from 1, of the layers that `means` and `ablated` are about.
        means: mean contribution of each head.
        ablated: sets of heads, the empty one first.
        batch_size: images at a time.
        workers: processes that prepare images.

    Returns:
        The class that is predicted, and the margin: the cosine with the true class less the largest with another one.
    """
    config, mesh = backbone.config, sharding.data_mesh()
    params = sharding.place(backbone.params, mesh, sharding.REPLICATED)
    (batch_size,) = sharding.filled((batch_size,), mesh, sharding.DATA)
    own = sharding.own_entries((batch_size,), mesh, sharding.DATA)

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, sharding.REPLICATED))
    def predict(params: dict, images: Array, labels: Array) -> tuple[Array, Array]:
        parts = decompose(params, config, vision.normalize(images, config), first_layer)
        changed = ablate(parts.total(), parts.heads, jnp.asarray(means), jnp.asarray(ablated))
        changed = changed / jnp.linalg.norm(changed, axis=-1, keepdims=True)
        cosines = jnp.einsum("bsd,cd->bsc", changed, jnp.asarray(classes))
        true = jax.nn.one_hot(labels, len(classes), dtype=bool)[:, None]
        margins = jnp.max(jnp.where(true, cosines, -2), -1) - jnp.max(jnp.where(true, -2, cosines), -1)
        return jnp.argmax(cosines, axis=-1), margins

    found = [
        [np.asarray(values) for values in predict(params, *(placed[name] for name in ("image", "label")))]
        for batch in progress_bar.bar(
            pipeline.eval_batches(split, batch_size, config.image_size, workers, own=own),
            disable=not processes.is_first(),
            desc="Ablating",
            total=-(-len(split) // batch_size),
            unit="batch",
        )
        for placed in [sharding.place(batch, mesh, sharding.DATA)]
    ]
    predicted, margins = (np.concatenate(values)[: len(split)].T for values in zip(*found, strict=True))
    return predicted, margins
