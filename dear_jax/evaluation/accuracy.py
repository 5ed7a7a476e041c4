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
from dear_jax.clip.split import Frozen, Prompts, Seen, Split, logit_scale
from dear_jax.data.class_set import ClassSet
from dear_jax.errors import count
from dear_jax.evaluation.batches import batches
from dear_jax.evaluation.metrics import CONFIDENCE_METRICS, GROUP_METRICS, METRICS
from dear_jax.files import progress_bar
from dear_jax.methods import paths, wording
from dear_jax.methods.adapter_file import Adapters
from dear_jax.methods.contract import Adapter, Classes, Method, Settings
from dear_jax.methods.paths import Rule
from dear_jax.parallel import axes, sharding


class Said(NamedTuple):
    """The most probable class of each image, and its probability."""

    labels: Int[np.ndarray, "*R n"]
    probabilities: Float[np.ndarray, "*R n"]


class Predictions(NamedTuple):
    """What is predicted for n test images, and the true classes."""

    adapted: Said  # [F, S, V, n], under F rules, the variants of all programs in turn; V is 0 without adapters
    zero_shot: Said  # [n]
    paths: Said  # [S, N, n]: what each path of the first variant says by itself; without adapters, none
    labels: Int[np.ndarray, "n"]
    path_names: tuple[str, ...]  # N


class Scores(NamedTuple):
    """Every metric on a class set; those of `GROUP_METRICS` where its images come in groups."""

    adapted: dict[str, np.ndarray]  # [F, S, V], the variants of all programs in turn; V is 0 without adapters
    zero_shot: dict[str, float]
    rules: tuple[Rule, ...]  # F ways to weigh the paths
    trained_on: bool = False  # whether the adapters were trained on all of its classes
    predictions: Predictions | None = None  # what the metrics are of

    def under(self, *rules: Rule) -> "Scores":
        """Those of some rules, in this order."""
        rows = [self.rules.index(rule) for rule in rules]
        of_rules = self._replace(adapted={name: values[rows] for name, values in self.adapted.items()}, rules=rules)
        if self.predictions is None:
            return of_rules
        adapted = Said(*(values[rows] for values in self.predictions.adapted))
        return of_rules._replace(predictions=self.predictions._replace(adapted=adapted))


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
        predictions = self.predict(classes)
        labels, count, groups = predictions.labels, len(classes.class_names), classes.test.groups
        both = [
            {name: metric(said.labels, labels, count) for name, metric in METRICS.items()}
            | {name: metric(*said, labels) for name, metric in CONFIDENCE_METRICS.items()}
            | {
                name: metric(said.labels, labels, groups)
                for name, metric in GROUP_METRICS.items()
                if groups is not None
            }
            for said in (predictions.adapted, predictions.zero_shot)
        ]
        zero_shot = {name: float(value) for name, value in both[1].items()}
        return Scores(both[0], zero_shot, self.rules, predictions=predictions)

    def predict(self, classes: ClassSet) -> Predictions:
        """What is predicted for every test image of a class set, in their order."""
        encoded = encode_prompts(self.methods, self.params, classes)
        known = list(zip(self.methods, encoded, strict=True))
        plain = wording.plain_features(self.plain, self.params, classes, known)
        of_methods = [sharding.place_prompts(prompts, self.mesh) for prompts in encoded]
        with progress_bar.waiting("Compiling what the adapters make of the classes", jax.process_index() > 0):
            adapted = [
                (*run, encode(run, Frozen(self.params, prompts)))
                for run, encode, prompts in zip(self.runs, self._classes, of_methods, strict=True)
            ]
        found, valid = [], []
        size, what = self.plain.config.image_size, f"Evaluating {count(len(classes.class_names), 'class')}"
        for batch in batches(classes.test, self.batch_size, size, self.mesh, what=what, workers=self.workers):
            valid.append(np.asarray(batch["valid"]))
            images = sharding.place(batch["image"], self.mesh, sharding.DATA)
            # Predictions stay on the device, so that the host can prepare the next batch meanwhile.
            found.append(self._predict(self.params, plain, images, adapted))
        kept = np.concatenate(valid)
        adapted_said, zero_shot, of_paths = jax.tree.map(
            lambda *parts: np.concatenate([np.asarray(part) for part in parts], axis=-1)[..., kept], *found
        )
        path_names = self.methods[0].paths if self.methods else ()
        return Predictions(adapted_said, zero_shot, of_paths, classes.test.labels, path_names)


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
) -> tuple[Said, Said, Said]:
    """`Predictions.adapted`, `.zero_shot` and `.paths` of B images; splits that cut at one layer share the prefix."""

    def predict(images: Array) -> tuple[Said, Said, Said]:
        looks: dict[int, Seen] = {}
        for split in (plain, *(method.split for method in methods)):
            if split.vision_layer not in looks:
                looks[split.vision_layer] = split.look(params, images)
        cosines = looks[plain.vision_layer].features @ plain_classes.T
        zero_shot = _said(cosines, logit_scale(params))
        found, of_paths = [], []
        for method, (adapter, settings, classes) in zip(methods, adapted, strict=True):
            seen = looks[method.split.vision_layer]

            def of_run(
                run: tuple[Adapter, Classes], settings: Settings, method: Method = method, seen: Seen = seen
            ) -> tuple[Said, Said]:
                logits = method.logits(run[0], settings, params, run[1], seen)
                weights = paths.rows(method.weights(run[0], settings), rules)
                return _said(jnp.einsum("bic,fi->fbc", logits, weights)), _said(jnp.moveaxis(logits, 1, 0))

            of_rules, by_path = axes.each_run(of_run, (adapter, classes), settings)
            found.append(of_rules)
            of_paths.append(by_path)
        if found:  # variants side by side: leaves [S, V, F, B] become [F, S, V, B]
            whole = jax.tree.map(lambda *of: jnp.moveaxis(jnp.concatenate(of, axis=1), 2, 0), *found)
            by_path = jax.tree.map(lambda of: of[:, 0], of_paths[0])
        else:
            whole = jax.tree.map(lambda of: jnp.zeros((len(rules), 0, 0, *of.shape), of.dtype), zero_shot)
            by_path = jax.tree.map(lambda of: of[0, :, :0], whole)
        together = (whole, zero_shot, by_path)
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -1, 0), together)  # images first, as groups are joined

    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), plain.in_groups(predict, images))


def _said(logits: Float[Array, "*R B C"], scale: Any = 1.0) -> Said:
    """The most probable classes by the softmax of `scale` times the logits."""
    most: Any = jnp.argmax(logits, axis=-1)
    probability: Any = jnp.exp(scale * logits.max(axis=-1) - jax.nn.logsumexp(scale * logits, axis=-1))
    return Said(most, probability)
