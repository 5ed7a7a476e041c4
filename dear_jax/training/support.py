"""Frozen features of the images that a method is fitted to: training and validation images through plain CLIP.

task, programs -> `Support` of each program and seed, NumPy arrays; nothing stays on a device. A second start computes
the same again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Float

from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.split import plain_split
from dear_jax.data import pipeline
from dear_jax.data.class_set import Task
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.methods import wording
from dear_jax.methods.contract import Support, Wanted
from dear_jax.parallel import sharding
from dear_jax.training.program import Program

if TYPE_CHECKING:
    from dear_jax.training.loop import Schedule

BATCH = 100  # images at a time
Supports = tuple[Support, ...]  # of each seed; empty where a method wants none


def collect(
    schedule: "Schedule", backbone: Backbone, task: Task, programs: Sequence[Program]
) -> tuple[Supports, ...]:
    """Of each program; programs that want the same images share their features."""
    wishes = {program.method.wanted for program in programs} - {None}
    if not wishes:
        return ((),) * len(programs)
    encoder = _Encoder(schedule, backbone, programs[0].method.split.dtype)
    images = {wanted: _of_images(encoder, task, wanted) for wanted in wishes if wanted is not None}
    found = []
    for program in programs:
        wanted = program.method.wanted
        text = np.asarray(wording.encode(program.method, encoder.params, task.trained_on).features)
        found.append(() if wanted is None else tuple(one._replace(text=text) for one in images[wanted]))
    return tuple(found)


def describe(task: Task, wanted: Wanted) -> str:
    """How many images there are, for those who wait."""
    times = "once" if wanted.passes < 2 else f"{wanted.passes} times"
    passes = f"{times} each{' with random crops' if wanted.passes else ''}"
    counts = sorted({len(split) for split in task.validation(wanted.validation)})
    validation = f"{' to '.join(map(str, counts))} validation images" if counts[-1] else "no validation images"
    return f"{len(task.train[0])} training images, {passes}, and {validation}"


def _of_images(encoder: "_Encoder", task: Task, wanted: Wanted) -> list[Support]:
    """Of each seed, the text still to come; validation images that are all seeds' are looked at once."""
    print(f"Features of plain CLIP for each seed: {describe(task, wanted)} ...", flush=True)
    validation = task.validation(wanted.validation)
    if not any(map(len, validation)):
        print(
            f"{task.data['name']} has no validation images apart from its test images: nothing is chosen, all stays as "
            "it starts.",
            flush=True,
        )
    looked_at = {id(split): encoder.look(split) for split in {id(split): split for split in validation}.values()}
    return [
        Support(
            encoder.look(train, wanted.passes, seed),
            train.labels.astype(np.int32),
            looked_at[id(val)],
            val.labels.astype(np.int32),
            np.zeros((0, encoder.width), np.float32),
        )
        for seed, train, val in zip(encoder.schedule.seeds, task.train, validation, strict=True)
    ]


class _Encoder:
    """Plain CLIP on all devices; images are spread over them."""

    def __init__(self, schedule: "Schedule", backbone: Backbone, dtype: Any):
        self.schedule, self.mesh = schedule, sharding.data_mesh()
        self.image_size, self.width = backbone.config.image_size, backbone.config.embed_dim
        self.params = sharding.place_backbone(cast(backbone.params, dtype), self.mesh, schedule.shard_backbone)
        (self._batch_size,) = sharding.filled((BATCH,), self.mesh, sharding.DATA)
        split = plain_split(backbone.config, dtype).spread(self.mesh.shape["data"], 0)
        self._encode = jax.jit(
            lambda params, images: split.image_features(params, split.look(params, images).prefix),
            out_shardings=NamedSharding(self.mesh, sharding.REPLICATED),
        )

    def look(self, split: ImageSplit, passes: int = 0, seed: int = 0) -> Float[np.ndarray, "N d"]:
        """Features, not of unit length: as in evaluation, or the mean over passes with random crops."""
        if not len(split):
            return np.zeros((0, self.width), np.float32)
        found = []
        for batch in self._batches(split, passes, seed):
            images = sharding.place(batch["image"], self.mesh, sharding.DATA)
            found.append((self._encode(self.params, images), batch["valid"]))
        features = np.concatenate([np.asarray(rows)[valid] for rows, valid in found])
        return features.reshape(-1, len(split), self.width).mean(axis=0)

    def _batches(self, split: ImageSplit, passes: int, seed: int) -> Any:
        own = sharding.own_entries((self._batch_size,), self.mesh, sharding.DATA)
        schedule = self.schedule
        if not passes:
            return pipeline.eval_batches(split, self._batch_size, self.image_size, schedule.workers, own=own)
        return pipeline.pass_batches(
            split,
            seed,
            passes,
            self._batch_size,
            image_size=self.image_size,
            crop_scale=schedule.crop_scale,
            flip=schedule.flip,
            workers=schedule.workers,
            cache_bytes=int(schedule.cache_gb * 2**30),
            own=own,
        )
