"""Images and classes through a trained adapter, all its seeds, beside zero-shot CLIP.

The classifier and retrieval stand on this. Each image goes through the frozen prefix once, whatever the number of
seeds; images are spread over the devices; classes are encoded in chunks and groups, so that memory does not grow with
their number but for what the method makes of them.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen
from dear_jax.data import prompts
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.evaluation.accuracy import encode_classes
from dear_jax.evaluation.batches import batches
from dear_jax.methods import wording
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.contract import Adapter, Classes, Method, Settings
from dear_jax.methods.wording import Named
from dear_jax.parallel import axes, sharding
from dear_jax.setup import runs

CHUNK = 256  # class prompts that pass through the adapted tower at a time
GROUP = 4096  # class prompts whose frozen side is held at a time; each group of another form is compiled anew


class ImageFeatures(NamedTuple):
    """Unit features of a batch of images."""

    adapted: Float[Array, "S B N d"]  # class path first
    plain: Float[Array, "B d"]  # zero-shot CLIP


class ClassGroup(NamedTuple):
    """What is known of some classes."""

    adapted: Classes  # of each seed, leaves [S, ...]
    plain: Float[Array, "C d"]  # unit features of zero-shot CLIP


class Encoder:
    """Encodes with the adapters of one variant (`Trained.select`)."""

    def __init__(self, trained: Trained, backbone: Backbone, dtype: Any, batch_size: int, workers: int = 0):
        """The adapters on their backbone.

        Raises:
            UserError: the adapters do not belong to this backbone.
        """
        (program,) = runs.restore(trained, backbone, dtype)
        self.mesh, self.workers = sharding.data_mesh(), workers
        self.backbone, self.dataset = backbone, trained.dataset
        self._ensembles = {trained.template: trained.ensemble or (trained.template,)}
        self.method = program.method.spread(self.mesh.shape["data"], CHUNK)
        self.batch_size = batch_size
        self.run: tuple[Adapter, Settings] = sharding.place(
            (program.adapter, program.settings), self.mesh, sharding.REPLICATED
        )
        self.params: Params = sharding.place(cast(backbone.params, dtype), self.mesh, sharding.REPLICATED)
        self.everywhere = NamedSharding(self.mesh, sharding.REPLICATED)
        self._images = jax.jit(functools.partial(_encode_images, self.method), out_shardings=self.everywhere)
        self._valid = jax.jit(lambda valid: valid, out_shardings=self.everywhere)
        self._classes = jax.jit(functools.partial(_encode_classes, self.method))

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the N paths."""
        return self.method.paths

    def classes(self, names: Sequence[str], template: str) -> list[ClassGroup]:
        """Any number of classes, in groups."""

        @functools.cache
        def tokenize(template: str) -> Int[np.ndarray, "C T"]:
            texts = prompts.prompts(names, template)
            return tokenizers.shorten(self.backbone.tokenizer(texts))

        # What was learned of closed classes is of all of them.
        size = GROUP if self.method.open_classes else len(names)
        ensemble = self._ensembles.get(template, (template,))

        def group(start: int) -> Named:
            part = slice(start, start + size)
            return Named(self.dataset, template, ensemble, lambda template: tokenize(template)[part])

        return [self._encode_group(group(start)) for start in range(0, len(names), size)]

    def _encode_group(self, group: Named) -> ClassGroup:
        encoded = wording.encode(self.method, self.params, group)
        plain = wording.plain_features(self.method.split, self.params, group, [(self.method, encoded)])
        placed = sharding.place_prompts(encoded, self.mesh)
        return ClassGroup(self._classes(self.run, Frozen(self.params, placed)), plain)

    def images(
        self, split: ImageSplit, skip_bad: bool = False
    ) -> Iterator[tuple[ImageFeatures, Bool[np.ndarray, "B"]]]:
        """Batches of B images in their order, and which of them are valid.

        An image is not valid where it only fills up the last batch, and, with `skip_bad`, where it cannot be read.

        Raises:
            UserError: the method has no features of images.
        """
        for pixels, valid in self.batches(split, skip_bad):
            yield self._images(self.params, *self.run, pixels), valid

    def batches(self, split: ImageSplit, skip_bad: bool = False) -> Iterator[tuple[Array, Bool[np.ndarray, "B"]]]:
        """The same as pixels on the devices, for a program of the caller's own."""
        size = self.method.split.config.image_size
        options: Any = {"what": "Encoding images", "workers": self.workers, "skip_bad": skip_bad}
        for batch in batches(split, self.batch_size, size, self.mesh, **options):
            images, valid = sharding.place((batch["image"], batch["valid"]), self.mesh, sharding.DATA)
            yield images, np.asarray(self._valid(valid))  # each process knows of its own images alone


def check_images(trained: Trained, backbone: Backbone, dtype: Any) -> None:
    """Refuse what `Encoder.images` cannot encode by, before any image is read.

    Raises:
        UserError: the adapters do not belong to this backbone, or their method has no features of images.
    """
    (program,) = runs.restore(trained, backbone, dtype)
    size = backbone.config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), np.uint8)
    encode = functools.partial(_encode_images, program.method)
    jax.eval_shape(encode, cast(backbone.params, dtype), program.adapter, program.settings, images)


def _encode_images(
    method: Method, params: Params, adapter: Adapter, settings: Settings, images: UInt8[Array, "B h w 3"]
) -> ImageFeatures:
    seen = method.split.look(params, images)
    adapted = axes.each_run(
        lambda adapter, settings: method.features(adapter, settings, params, seen), adapter, settings
    )
    return ImageFeatures(adapted[:, 0], seen.features)


def _encode_classes(method: Method, run: tuple[Adapter, Settings], frozen: Frozen) -> Classes:
    return jax.tree.map(lambda leaf: leaf[:, 0], encode_classes(method, run, frozen))
