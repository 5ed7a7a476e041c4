"""The compiled evaluation: top-1 accuracies of adapters and of zero-shot CLIP on a class set.

Each image goes through the frozen prefix once, whatever the number of runs, and each run's text features are computed
once per class set. Runs follow one another (`lax.map`), so that memory does not grow with their number; images and
class prompts are spread over the devices.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int

from dear_jax.clip.layers import Params
from dear_jax.data import pipeline
from dear_jax.methods.adapter_file import Adapters
from dear_jax.methods.dear.fusion import Mode
from dear_jax.methods.dear.model import Model, Prompts, Settings
from dear_jax.methods.dear.tokens import Adapter
from dear_jax.parallel import sharding
from dear_jax.setup.data import ClassSet
from dear_jax.training import step


class Accuracy(NamedTuple):
    """Top-1 accuracies in percent, micro-averaged over all test images of a class set."""

    adapted: np.ndarray  # [F, S, V], the variants of all programs in turn; V is 0 without adapters
    zero_shot: float
    modes: tuple[Mode, ...]  # F ways to fuse (adapt.fusion.modes)

    def under(self, mode: Mode) -> "Accuracy":
        """That of one way to fuse."""
        return self._replace(adapted=self.adapted[[self.modes.index(mode)]], modes=(mode,))


class Evaluator:
    """Evaluates adapters, one after the other, and zero-shot CLIP."""

    def __init__(
        self,
        model: Model,
        params: Params,
        adapters: Sequence[Adapters],
        mesh: Mesh,
        batch_size: int,
        modes: Sequence[Mode] = ("learned",),
        workers: int = 0,
    ):
        """`model` is that of zero-shot CLIP; `adapters` those of each program, of the same seeds."""
        self.params, self.mesh, self.workers = params, mesh, workers
        (self.batch_size,) = sharding.filled((batch_size,), mesh, sharding.DATA)
        self.models = tuple(
            model.spread(mesh.shape["data"], model.class_chunk)
            for model in (model, *(program.model for program in adapters))
        )
        self.runs = [
            sharding.place((program.adapter, program.settings), mesh, sharding.REPLICATED) for program in adapters
        ]
        everywhere = NamedSharding(mesh, sharding.REPLICATED)
        self._classes = [
            jax.jit(functools.partial(encode_classes, model), out_shardings=everywhere) for model in self.models[1:]
        ]
        self.modes = tuple(modes)
        self._count = jax.jit(functools.partial(count_batch, self.models, self.modes), out_shardings=everywhere)

    def __call__(self, classes: ClassSet) -> Accuracy:
        """The accuracies on one class set under each way to fuse. Every test image counts exactly once."""
        encoded = encode_prompts(self.models, self.params, classes.token_ids)
        prompts = [sharding.place_prompts(of_model, self.mesh) for of_model in encoded]
        adapted = [
            (*run, encode(run, self.params, prompts[1 + number]))
            for number, (run, encode) in enumerate(zip(self.runs, self._classes, strict=True))
        ]
        own = sharding.own_entries((self.batch_size,), self.mesh, sharding.DATA)
        correct, correct_zero_shot = 0, 0
        image_size = self.models[0].config.image_size
        for batch in pipeline.eval_batches(classes.test, self.batch_size, image_size, self.workers, own=own):
            batch = sharding.place(batch, self.mesh, sharding.DATA)
            counts = self._count(self.params, prompts[0].features, batch, adapted)
            # Sums stay on the device, so that the host can prepare the next batch meanwhile.
            correct, correct_zero_shot = correct + counts[0], correct_zero_shot + counts[1]
        total = len(classes.test)
        return Accuracy(100.0 * np.asarray(correct) / total, 100.0 * float(correct_zero_shot) / total, self.modes)


def encode_prompts(models: Sequence[Model], params: Params, token_ids: Int[np.ndarray, "C T"]) -> list[Prompts]:
    """The prompts' frozen side for each model; those that split the text tower at the same layer share it."""
    shared: dict[tuple[int, int], Prompts] = {}
    keys = [(model.structure.text_layer, model.class_chunk) for model in models]
    for key, model in zip(keys, models, strict=True):
        if key not in shared:
            shared[key] = model.encode_prompts(params, token_ids)
    return [shared[key] for key in keys]


def encode_classes(
    model: Model, run: tuple[Adapter, Settings], params: Params, prompts: Prompts
) -> Float[Array, "S V C d"]:
    """Adapted text features of every run."""
    return step.each_run(lambda adapter, settings: model.text_features(adapter, params, prompts, settings.beta), *run)


def count_batch(
    models: Sequence[Model],
    modes: Sequence[Mode],
    params: Params,
    plain_classes: Float[Array, "C d"],
    batch: dict[str, Array],
    adapted: Sequence[tuple],
) -> tuple[Int[Array, "F S V"], Int[Array, ""]]:
    """Correct predictions of every run and of zero-shot CLIP; models that split at the same layer share the prefix."""
    plain, *programs = models

    def correct(batch: dict[str, Array]) -> tuple[Bool[Array, "B F S V"], Bool[Array, "B"]]:
        prefixes: dict[int, Array] = {}
        for model in models:
            layer = model.structure.vision_layer
            if layer not in prefixes:
                prefixes[layer] = model.image_prefix(params, batch["image"])
        labels, prefix = batch["label"], prefixes[plain.structure.vision_layer]
        zero_shot = step.correct_zero_shot(plain, params, plain_classes, prefix, labels)
        found = []
        for model, (adapter, settings, classes) in zip(programs, adapted, strict=True):

            def of_run(run: tuple[Adapter, Array], settings: Settings, model: Model = model) -> Bool[Array, "F B"]:
                prefix = prefixes[model.structure.vision_layer]
                return step.correct(model, run[0], params, run[1], prefix, labels, settings, modes)

            found.append(step.each_run(of_run, (adapter, classes), settings))
        none = jnp.zeros((len(zero_shot), len(modes), 0, 0), bool)
        return jnp.moveaxis(jnp.concatenate(found, axis=1), (3, 2), (0, 1)) if found else none, zero_shot

    found, zero_shot = plain.in_groups(correct, batch)
    valid = batch["valid"]
    return jnp.sum(found & valid[:, None, None, None], axis=0), jnp.sum(zero_shot & valid)
