"""Accuracy with ever more heads ablated, of what a run has learned and of zero-shot CLIP.

In: adapters, class sets, training images, a role map. Out: the curves of `roles.curves` for every class set, variant
and score. A head is ablated by giving each path that is read the head's mean direct contribution over the training
images in place of the image's own (`roles.decompose.ablate`), before features are scaled to unit length; what later
layers made of the head stays. Scores are those of `roles.curves.score_orders`, with shares of the prediction in place
of plain contributions: of path i with weight w_i, w_i c / |f_i| for a head's contribution c to the feature f_i.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params, unit
from dear_jax.clip.split import plain_split
from dear_jax.data.class_set import ClassSet
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError
from dear_jax.evaluation import explanation
from dear_jax.evaluation.batches import batches
from dear_jax.evaluation.features import Encoder
from dear_jax.methods import paths, wording
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.paths import Rule
from dear_jax.parallel import sharding
from dear_jax.roles import curves, decompose
from dear_jax.roles.decompose import PathParts, ReadOut, ablate, paths_and_heads
from dear_jax.roles.role_map import RoleMap
from dear_jax.setup import runs

SETS = 16  # of heads, ablated at a time


class Sums(NamedTuple):
    """Over images, of the heads under one seed; `shares` are what they add to the unit features of the prediction."""

    heads: Float[Array, "N n H d"]
    shares: Float[Array, "N n H d"]
    squares: Float[Array, "n H"]  # of the shares, over paths and d
    along: Float[Array, "n H"]  # the shares times the true class's feature less the mean class's
    text: Float[Array, "d"]  # this difference


@dataclasses.dataclass(frozen=True)
class Looked:
    """Means and scores of the heads, from the training images."""

    means: Float[np.ndarray, "S N n H d"]
    variance: Float[np.ndarray, "n H"]  # of the shares, the mean over the seeds
    attribution: Float[np.ndarray, "n H"]


def check(trained: Trained | None, backbone: Backbone, images: ImageSplit) -> None:
    """Refuse what cannot be measured, before anything is computed.

    Raises:
        UserError: no training images; adapters of another backbone, or whose logits are more than the similarity of
            features.
    """
    if not len(images):
        raise UserError(
            "config.eval.ablation gives ablated heads the mean of their contributions to training images, and the data "
            "set has none: leave the key out."
        )
    for of in runs.restore(trained, backbone, jnp.float32) if trained else ():
        try:
            explanation.check(of.method, (of.adapter, of.settings), backbone.params)
        except UserError as error:
            raise UserError(
                f"config.eval.ablation takes contributions of heads out of what a method predicts. {error} Leave the "
                "key out, or config.run."
            ) from error


def measure(
    trained: Trained | None,
    backbone: Backbone,
    classes: Mapping[str, ClassSet],
    images: ImageSplit,
    role_map: RoleMap,
    *,
    rule: Rule | None,
    batch_size: int,
    workers: int = 0,
) -> dict[str, Any]:
    """The curves of every class set: of zero-shot CLIP, and of each variant the mean over its seeds.

    Args:
        trained: the adapters; None: zero-shot CLIP alone.
        backbone: theirs.
        classes: the class sets; the first one's images are given as well.
        images: training images, from which means and scores are taken; they and the adapters went through `check`.
        role_map: whose layers and Concept Entropy count.
        rule: of the paths' weights where classes were not trained on; None: the method's own.
        batch_size: images at a time.
        workers: processes that prepare images.

    Returns:
        "images", "first_layer", and under "class_sets" and its name what `curves.summarize` gives: of zero-shot CLIP,
        and under "variants" of each variant. "accuracy" is that with all heads.
    """
    found: dict[str, Any] = {"images": len(images), "first_layer": role_map.first_layer, "class_sets": {}}
    found["class_sets"] = {name: {"variants": {}} for name in classes}
    for variant in trained.names if trained else ():
        assert trained is not None
        encoder = Encoder(trained.select(variant), backbone, jnp.float32, batch_size, workers)
        own = encoder.method.new_classes if rule is None else rule
        rules = {of: own if trained.is_new(one.class_names) else "learned" for of, one in classes.items()}
        for of, curve in _Model.of_run(encoder).curves(classes, rules, images, role_map).items():
            found["class_sets"][of]["variants"][variant] = curve
    plain = _Model.of_clip(backbone, batch_size, workers)
    for of, curve in plain.curves(classes, dict.fromkeys(classes, "learned"), images, role_map).items():
        found["class_sets"][of]["zero_shot"] = curve
    return found


@dataclasses.dataclass(frozen=True)
class _Model:
    """What predicts, for each of S seeds."""

    config: CLIPConfig
    params: Params
    runs: Any  # leaves [S, ...]
    read: Callable[[Params, Any], ReadOut]  # how a seed's run reads images
    weights: Callable[[Rule], Float[Array | np.ndarray, "S N"]]  # of the paths
    features: Callable[[ClassSet], Float[Array, "S C d"]]
    batch_size: int
    workers: int

    @classmethod
    def of_run(cls, encoder: Encoder) -> "_Model":
        method, (adapter, settings) = encoder.method, encoder.run
        seeds, own = jax.tree.map(lambda leaf: leaf[:, 0], adapter), jax.tree.map(lambda leaf: leaf[0], settings)

        def read(params: Params, run: Any) -> ReadOut:
            return method.read_out(run, own, params)

        def weights(rule: Rule) -> Float[Array, "S N"]:
            return jax.vmap(lambda run: paths.rows(method.weights(run, own), [rule])[0])(seeds)

        def features(classes: ClassSet) -> Float[Array, "S C d"]:
            groups = encoder.classes(classes.class_names, classes.template)
            return jnp.concatenate([group.adapted for group in groups], axis=1)

        batches_of = (encoder.batch_size, encoder.workers)
        return cls(method.split.config, encoder.params, seeds, read, weights, features, *batches_of)

    @classmethod
    def of_clip(cls, backbone: Backbone, batch_size: int, workers: int) -> "_Model":
        params = sharding.place(cast(backbone.params, jnp.float32), sharding.data_mesh(), sharding.REPLICATED)
        split, one = plain_split(backbone.config, jnp.float32), np.ones((1, 1), np.float32)

        def features(classes: ClassSet) -> Float[Array, "S C d"]:
            return wording.plain_features(split, params, classes)[None]

        return cls(
            backbone.config,
            params,
            one,
            lambda params, run: decompose.plain(params),
            lambda rule: one,
            features,
            batch_size,
            workers,
        )

    def curves(
        self, classes: Mapping[str, ClassSet], rules: Mapping[str, Rule], images: ImageSplit, role_map: RoleMap
    ) -> dict[str, Any]:
        """Of every class set, under its own rule."""
        features = {name: self.features(one) for name, one in classes.items()}
        first = next(iter(classes))
        looked = self.look(images, features[first], self.weights(rules[first]), role_map.first_layer)
        scores = {
            "entropy": np.ravel(role_map.details["entropy"]),
            "variance": np.ravel(looked.variance),
            "attribution": np.ravel(looked.attribution),
        }
        layers, heads = looked.variance.shape
        along = curves.sets(curves.by_score(scores), (layers, heads))
        ablated, at = np.concatenate(list(along.values())), curves.points(layers * heads)
        count_right = self._compile(functools.partial(_right, ablated), role_map.first_layer)
        found = {}
        for name, one in classes.items():
            given = (features[name], self.weights(rules[name]), looked.means)
            (right,) = self._total("Ablating", one.test, count_right, *given)
            accuracy = 100 * right.mean(0) / len(one.test)
            found[name] = {"accuracy": float(accuracy[0])} | curves.summarize(at, list(along), accuracy)
        return found

    def look(
        self,
        images: ImageSplit,
        features: Float[Array, "S C d"],
        weights: Float[Array | np.ndarray, "S N"],
        first_layer: int,
    ) -> Looked:
        """At the heads of layers first_layer..L."""
        sums = self._total("Looking at heads", images, self._compile(_sums, first_layer), features, weights)
        heads, shares, squares, along, text = (leaf / len(images) for leaf in sums)
        variance = squares - np.square(shares).sum((1, 4))
        attribution = along - np.einsum("snlhd,sd->slh", shares, text)
        return Looked(np.asarray(heads, np.float32), variance.mean(0), attribution.mean(0))

    def _compile(self, function: Callable[..., tuple], first_layer: int) -> Callable[..., tuple]:
        """A function of the parts of a batch's images under one seed, and of what is that seed's, for all seeds."""

        def compute(params: Params, runs: Any, given: tuple[Array, ...], batch: Mapping[str, Array]) -> tuple:
            pixels = vision.normalize(batch["image"], self.config)

            def of_seed(seed: tuple[Any, tuple[Array, ...]]) -> tuple:
                run, given = seed
                parts = paths_and_heads(self.read(params, run), self.config, pixels, first_layer)
                return function(parts, batch, *given)

            return tuple(jax.lax.map(of_seed, (runs, given)))

        return jax.jit(compute, out_shardings=NamedSharding(sharding.data_mesh(), sharding.REPLICATED))

    def _total(
        self, what: str, images: ImageSplit, compute: Callable[..., tuple], *given: Array | np.ndarray
    ) -> list[np.ndarray]:
        """The sum over batches of what is compiled, given leaves [S, ...]; all processes of a job call this."""
        mesh = sharding.data_mesh()
        totals: list[np.ndarray] = []
        for batch in batches(images, self.batch_size, self.config.image_size, mesh, what=what, workers=self.workers):
            placed = sharding.place({key: batch[key] for key in ("image", "label", "valid")}, mesh, sharding.DATA)
            found = [np.asarray(leaf, np.float64) for leaf in compute(self.params, self.runs, given, placed)]
            totals = [total + one for total, one in zip(totals, found, strict=True)] if totals else found
        return totals


def _sums(
    parts: PathParts, batch: Mapping[str, Array], classes: Float[Array, "C d"], weights: Float[Array, "N"]
) -> Sums:
    valid = batch["valid"].astype(jnp.float32)
    heads = parts.heads * valid[:, None, None, None, None]
    scale = weights[None] / jnp.linalg.norm(parts.features, axis=-1)
    shares = heads * scale[:, :, None, None, None]
    text = (classes - classes.mean(0, keepdims=True))[batch["label"]] * valid[:, None]
    along = jnp.einsum("bnlhd,bd->lh", shares, text)
    return Sums(heads.sum(0), shares.sum(0), jnp.square(shares).sum((0, 1, 4)), along, text.sum(0))


def _right(
    ablated: Bool[np.ndarray, "sets n H"],
    parts: PathParts,
    batch: Mapping[str, Array],
    classes: Float[Array, "C d"],
    weights: Float[Array, "N"],
    means: Float[Array, "N n H d"],
) -> tuple[Int[Array, "sets"]]:
    """How many images are right under the ablation of each set."""

    def under(heads: Bool[Array, "n H"]) -> Int[Array, ""]:
        of_path = jax.vmap(ablate, (1, 1, 0, None), 1)
        changed = of_path(parts.features, parts.heads, means, heads[None])[:, :, 0]
        logits = jnp.einsum("n,bnd,cd->bc", weights, unit(changed), classes)
        return jnp.sum((jnp.argmax(logits, axis=-1) == batch["label"]) & batch["valid"])

    return (jax.lax.map(under, jnp.asarray(ablated), batch_size=SETS),)
