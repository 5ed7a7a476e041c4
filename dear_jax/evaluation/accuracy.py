"""The compiled evaluation: what adapters and zero-shot CLIP predict on a class set, and how good that is.

Each image goes through the frozen prefix once, whatever the number of runs, and what a run makes of the classes is
made once per class set. Runs follow one another (`axes.each_run`), so that memory does not grow with their number;
images and class prompts are spread over the devices.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts, Seen, Split
from dear_jax.data import pipeline
from dear_jax.data.class_set import ClassSet
from dear_jax.evaluation.metrics import GROUP_METRICS, METRICS
from dear_jax.methods import paths, wording
from dear_jax.methods.adapter_file import Adapters
from dear_jax.methods.contract import Adapter, Classes, Method, Settings
from dear_jax.methods.paths import Rule
from dear_jax.parallel import axes, sharding


class Predictions(NamedTuple):
    """The classes that are predicted for n test images, and the true ones."""

    adapted: Int[np.ndarray, "F S V n"]  # under F rules, the variants of all programs in turn; V is 0 without adapters
    zero_shot: Int[np.ndarray, "n"]
    labels: Int[np.ndarray, "n"]


class Scores(NamedTuple):
    """Every metric of `METRICS` on a class set, and of `GROUP_METRICS` where its images come in groups."""

    adapted: dict[str, np.ndarray]  # [F, S, V], the variants of all programs in turn; V is 0 without adapters
    zero_shot: dict[str, float]
    rules: tuple[Rule, ...]  # F ways to weigh the paths
    trained_on: bool = False  # whether the adapters were trained on all of its classes

    def under(self, *rules: Rule) -> "Scores":
        """Those of some rules, in this order."""
        rows = [self.rules.index(rule) for rule in rules]
        return self._replace(adapted={name: values[rows] for name, values in self.adapted.items()}, rules=rules)


class Evaluator:
    """Evaluates adapters, one after the other, and zero-shot CLIP."""

    def __init__(
        self,
        plain: Split,
        params: Params,
        adapters: Sequence[Adapters],
        mesh: Mesh,
        batch_size: int,
        rules: Sequence[Rule] = ("learned",),
        workers: int = 0,
    ):
        """`plain` is the split of zero-shot CLIP; `adapters` are those of each program, of the same seeds."""
        self.params, self.mesh, self.batch_size, self.workers = params, mesh, batch_size, workers
        shards = mesh.shape["data"]
        self.plain = plain.spread(shards, plain.class_chunk)
        self.methods = tuple(of.method.spread(shards, of.method.split.class_chunk) for of in adapters)
        self.runs = [sharding.place((of.adapter, of.settings), mesh, sharding.REPLICATED) for of in adapters]
        everywhere = NamedSharding(mesh, sharding.REPLICATED)
        self._classes = [
            jax.jit(functools.partial(encode_classes, method), out_shardings=everywhere) for method in self.methods
        ]
        self.rules = tuple(rules)
        predict = functools.partial(predict_batch, self.plain, self.methods, self.rules)
        self._predict = jax.jit(predict, out_shardings=everywhere)

    def __call__(self, classes: ClassSet) -> Scores:
        """Every metric on one class set under each rule. Every test image counts exactly once."""
        adapted, zero_shot, labels = self.predict(classes)
        count, groups = len(classes.class_names), classes.test.groups
        both = [
            {name: metric(predicted, labels, count) for name, metric in METRICS.items()}
            | {name: metric(predicted, labels, groups) for name, metric in GROUP_METRICS.items() if groups is not None}
            for predicted in (adapted, zero_shot)
        ]
        return Scores(both[0], {name: float(value) for name, value in both[1].items()}, self.rules)

    def predict(self, classes: ClassSet) -> Predictions:
        """What is predicted for every test image of a class set, in their order."""
        encoded = encode_prompts(self.methods, self.params, classes)
        known = list(zip(self.methods, encoded, strict=True))
        plain = wording.plain_features(self.plain, self.params, classes, known)
        of_methods = [sharding.place_prompts(prompts, self.mesh) for prompts in encoded]
        adapted = [
            (*run, encode(run, Frozen(self.params, prompts)))
            for run, encode, prompts in zip(self.runs, self._classes, of_methods, strict=True)
        ]
        (count,) = sharding.filled((pipeline.fitting(len(classes.test), self.batch_size),), self.mesh, sharding.DATA)
        own = sharding.own_entries((count,), self.mesh, sharding.DATA)
        found, valid = [], []
        image_size = self.plain.config.image_size
        for batch in pipeline.eval_batches(classes.test, count, image_size, self.workers, own=own):
            valid.append(np.asarray(batch["valid"]))
            images = sharding.place(batch["image"], self.mesh, sharding.DATA)
            # Predictions stay on the device, so that the host can prepare the next batch meanwhile.
            found.append(self._predict(self.params, plain, images, adapted))
        kept = np.concatenate(valid)
        runs = np.concatenate([np.asarray(of_runs) for of_runs, _ in found], axis=-1)
        zero_shot = np.concatenate([np.asarray(plain) for _, plain in found])
        return Predictions(runs[..., kept], zero_shot[kept], classes.test.labels)


def encode_prompts(methods: Sequence[Method], params: Params, classes: ClassSet) -> list[Prompts]:
    """The prompts' frozen side for the methods of a job's programs; those that read the same share it."""
    shared: dict[Any, Prompts] = {}
    for method in methods:
        key = method.reading
        if key not in shared:
            shared[key] = wording.encode(method, params, classes)
    return [shared[method.reading] for method in methods]


def encode_classes(method: Method, run: tuple[Adapter, Settings], frozen: Frozen) -> Classes:
    """What every run makes of the classes, leaves `[S, V, ...]`."""
    return axes.each_run(lambda adapter, settings: method.classes(adapter, settings, frozen), *run)


def predict_batch(
    plain: Split,
    methods: Sequence[Method],
    rules: Sequence[Rule],
    params: Params,
    plain_classes: Float[Array, "C d"],
    images: Array,
    adapted: Sequence[tuple[Adapter, Settings, Classes]],
) -> tuple[Int[Array, "F S V B"], Int[Array, "B"]]:
    """Classes predicted by every run and by zero-shot CLIP; splits that cut at the same layer share the prefix."""

    def predict(images: Array) -> tuple[Int[Array, "B F S V"], Int[Array, "B"]]:
        looks: dict[int, Seen] = {}
        for split in (plain, *(method.split for method in methods)):
            if split.vision_layer not in looks:
                looks[split.vision_layer] = split.look(params, images)
        zero_shot = jnp.argmax(looks[plain.vision_layer].features @ plain_classes.T, axis=-1)
        found = []
        for method, (adapter, settings, classes) in zip(methods, adapted, strict=True):
            seen = looks[method.split.vision_layer]

            def of_run(
                run: tuple[Adapter, Classes], settings: Settings, method: Method = method, seen: Seen = seen
            ) -> Int[Array, "F B"]:
                logits = method.logits(run[0], settings, params, run[1], seen)
                weights = paths.rows(method.weights(run[0], settings), rules)
                return jnp.argmax(jnp.einsum("bic,fi->fbc", logits, weights), axis=-1)

            found.append(axes.each_run(of_run, (adapter, classes), settings))
        none = jnp.zeros((len(zero_shot), len(rules), 0, 0), zero_shot.dtype)
        return jnp.moveaxis(jnp.concatenate(found, axis=1), (3, 2), (0, 1)) if found else none, zero_shot

    found, zero_shot = plain.in_groups(predict, images)
    return jnp.moveaxis(found, 0, -1), zero_shot
