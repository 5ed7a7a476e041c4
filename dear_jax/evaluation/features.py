"""Images and class prompts to unit features of a trained adapter, all its seeds, beside those of zero-shot CLIP.

The classifier and retrieval stand on this. Each image goes through the frozen prefix once, whatever the number of
seeds; images are spread over the devices; classes are encoded in chunks, so that memory does not grow with their
number but for the features themselves.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.layers import Params
from dear_jax.data import pipeline
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.dear.model import Model, Prompts, Settings
from dear_jax.methods.dear.tokens import Adapter
from dear_jax.parallel import sharding
from dear_jax.training import step

CLASS_PATH = "class"  # name of the first path; the others are called after their attributes
CHUNK = 256  # class prompts that pass through the adapted tower at a time
GROUP = 4096  # class prompts whose frozen side is held at a time; each group of another form is compiled anew


class ImageFeatures(NamedTuple):
    """Unit features of a batch of images."""

    adapted: Float[Array, "S B 1+K d"]  # class path first
    plain: Float[Array, "B d"]  # zero-shot CLIP


class ClassFeatures(NamedTuple):
    """Unit features of class prompts."""

    adapted: Float[Array, "S C d"]
    plain: Float[Array, "C d"]


class Encoder:
    """Encodes with the adapters of one variant (`Trained.select`)."""

    def __init__(self, trained: Trained, backbone: Backbone, dtype: Any, batch_size: int, workers: int = 0):
        """The adapters on their backbone.

        Raises:
            UserError: the adapters do not belong to this backbone.
        """
        (program,) = trained.adapters(backbone, dtype)
        self.mesh, self.workers = sharding.data_mesh(), workers
        self.model = program.model.spread(self.mesh.shape["data"], CHUNK)
        (self.batch_size,) = sharding.filled((batch_size,), self.mesh, sharding.DATA)
        self.run: tuple[Adapter, Settings] = sharding.place(
            (program.adapter, program.settings), self.mesh, sharding.REPLICATED
        )
        self.params: Params = sharding.place(cast(backbone.params, dtype), self.mesh, sharding.REPLICATED)
        self._images = jax.jit(functools.partial(_encode_images, self.model))
        self._classes = jax.jit(functools.partial(_encode_classes, self.model))

    @property
    def paths(self) -> tuple[str, ...]:
        """The 1 + K names of the paths."""
        return (CLASS_PATH, *self.model.structure.attributes)

    def classes(self, token_ids: Int[np.ndarray, "C T"]) -> ClassFeatures:
        """Features of any number of prompts."""
        groups = [self._encode_group(token_ids[start : start + GROUP]) for start in range(0, len(token_ids), GROUP)]
        return ClassFeatures(
            jnp.concatenate([group.adapted for group in groups], axis=1),
            jnp.concatenate([group.plain for group in groups]),
        )

    def _encode_group(self, token_ids: Int[np.ndarray, "C T"]) -> ClassFeatures:
        prompts = sharding.place_prompts(self.model.encode_prompts(self.params, token_ids), self.mesh)
        return ClassFeatures(self._classes(self.params, *self.run, prompts), prompts.features)

    def images(
        self, split: ImageSplit, skip_bad: bool = False
    ) -> Iterator[tuple[ImageFeatures, Bool[np.ndarray, "B"]]]:
        """Batches of B images in their order, and which of them are valid.

        An image is not valid where it only fills up the last batch, and, with `skip_bad`, where it cannot be read.
        """
        size = self.model.config.image_size
        for batch in pipeline.eval_batches(split, self.batch_size, size, self.workers, skip_bad):
            pixels = sharding.place(batch["image"], self.mesh, sharding.DATA)
            yield self._images(self.params, *self.run, pixels), batch["valid"]


def _encode_images(
    model: Model, params: Params, adapter: Adapter, settings: Settings, images: UInt8[Array, "B h w 3"]
) -> ImageFeatures:
    prefix = model.image_prefix(params, images)
    adapted = step.each_run(
        lambda adapter, settings: model.image_features(adapter, params, settings, prefix), adapter, settings
    )
    return ImageFeatures(adapted[:, 0], model.plain_features(params, prefix))


def _encode_classes(
    model: Model, params: Params, adapter: Adapter, settings: Settings, prompts: Prompts
) -> Float[Array, "S C d"]:
    adapted = step.each_run(
        lambda adapter, settings: model.text_features(adapter, params, prompts, settings.beta), adapter, settings
    )
    return adapted[:, 0]
