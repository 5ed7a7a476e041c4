"""Where logits come from: maps of images for texts, by what a run has learned or by plain CLIP alone.

In: batches of images and texts. Out: `Explanation`s of single images, whose parts sum up to the logit
(`roles.places` says of what they are and of what they are not). Of several seeds the mean is given, of all parts and
so of the logits.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.evaluation.features import ClassGroup, Encoder
from dear_jax.methods import paths
from dear_jax.methods.contract import Method, Settings
from dear_jax.methods.paths import Rule
from dear_jax.report.heat_maps import Explained
from dear_jax.report.predictions import WHOLE, ZERO_SHOT
from dear_jax.roles import decompose, places
from dear_jax.roles.places import Summary

PARTS = ("first", "learned", "mlps", "biases", "before", "norm_bias")  # single numbers of a `Summary`
Chosen = Int[np.ndarray, "B K"]  # which K of the texts each image is explained for
Compute = Callable[[Array, np.ndarray], Summary]


@dataclasses.dataclass(frozen=True)
class Explainer:
    """Explains batches of images for some of C texts."""

    paths: tuple[str, ...]  # names of the N rows of what `compute` gives
    compute: Compute

    def __call__(self, pixels: Array, chosen: Chosen, texts: Sequence[str]) -> Iterator[list[Explained]]:
        """Of each image, path after path, its K texts in turn.

        Args:
            pixels: uint8 `[B, size, size, 3]`.
            chosen: indices into the texts.
            texts: the names of all C.
        """
        found: Any = jax.device_get(self.compute(pixels, np.asarray(chosen)))
        side = round(found.patches.shape[-1] ** 0.5)
        for image, own in enumerate(chosen):
            yield [
                Explained(
                    path=path,
                    text=texts[text],
                    logit=float(found.logits[image, n, k]),
                    patches=found.patches[image, n, k].reshape(side, side),
                    parts={name: float(getattr(found, name)[image, n, k]) for name in PARTS},
                    heads=found.heads[image, n, k],
                    attention=None if path == WHOLE else found.attention[image, n].reshape(side, side),
                    looking=int(found.looking[n]),
                )
                for n, path in enumerate(self.paths)
                for k, text in enumerate(own)
            ]


def of_clip(backbone: Backbone, texts: Float[np.ndarray, "C d"]) -> Explainer:
    """By plain CLIP: its one path, and unit text features."""
    params, config = jax.device_put(backbone.params), backbone.config

    @jax.jit
    def compute(params: Params, images: Array, chosen: Array) -> Summary:
        return _plain(params, config, vision.normalize(images, config), jnp.asarray(texts)[chosen])

    return Explainer((ZERO_SHOT,), functools.partial(compute, params))


def of_run(encoder: Encoder, groups: Sequence[ClassGroup], rule: Rule) -> Explainer:
    """By the paths of a run and by zero-shot CLIP; and by all paths, the sum of their parts by their weights.

    Args:
        encoder: the run's.
        groups: its classes, or texts in their place.
        rule: by which its paths are weighed.

    Raises:
        UserError: the method's logits come from more than the image's places.
    """
    check(encoder.method, encoder.run, encoder.params)
    compute = jax.jit(functools.partial(_explain, encoder.method, rule), out_shardings=encoder.everywhere)
    bound = functools.partial(compute, encoder.params, *encoder.run, list(groups))
    return Explainer((WHOLE, ZERO_SHOT, *encoder.paths), bound)


def check(method: Method, run: tuple[Any, Settings], params: Params) -> None:
    """Refuse a method without maps, before anything is computed.

    Raises:
        UserError: it says why.
    """
    adapter, settings = run
    one = jax.tree.map(lambda leaf: leaf[0, 0], adapter), jax.tree.map(lambda leaf: leaf[0], settings)
    jax.eval_shape(lambda *arguments: method.read_out(*arguments)[1], *one, params)


def _explain(
    method: Method,
    rule: Rule,
    params: Params,
    adapter: Any,
    settings: Any,
    groups: Sequence[ClassGroup],
    images: UInt8[Array, "B h w 3"],
    chosen: Int[Array, "B K"],
) -> Summary:
    """The mean over the seeds; leaves of `adapter` are `[S, 1, ...]`, of `settings` `[1, ...]`."""
    config, params = method.split.config, cast(params, jnp.float32)
    texts = jnp.concatenate([group.adapted for group in groups], axis=1)
    plain = jnp.concatenate([group.plain for group in groups])
    pixels = vision.normalize(images, config)
    settings = jax.tree.map(lambda leaf: leaf[0], settings)

    def of_seed(seed: tuple[Any, Array]) -> Summary:
        adapter, texts = seed
        read = method.read_out(adapter, settings, params)
        found = places.summarize(places.locate(read, config, pixels, texts[chosen]), read, config.patches)
        weights = paths.rows(method.weights(adapter, settings), [rule])[0]

        def add_whole(leaf: Array) -> Array:
            """The weighted sum over the paths, in front of them."""
            axis = int(leaf.ndim > 1)
            whole = jnp.tensordot(weights, leaf, (0, axis))
            return jnp.concatenate([jnp.expand_dims(whole, axis), leaf], axis)

        return jax.tree.map(add_whole, found)

    seeds = (jax.tree.map(lambda leaf: leaf[:, 0], adapter), texts)
    ours = jax.tree.map(lambda leaf: leaf.mean(0), jax.lax.map(of_seed, seeds))
    theirs = _plain(params, config, pixels, plain[chosen])

    def beside(ours: Array, theirs: Array) -> Array:
        """All paths, zero-shot CLIP, each path."""
        axis = int(ours.ndim > 1)
        whole, each = jnp.split(ours, [1], axis)
        return jnp.concatenate([whole, theirs, each], axis)

    return jax.tree.map(beside, ours, theirs)


def _plain(
    params: Params, config: CLIPConfig, pixels: Float[Array, "B h w 3"], texts: Float[Array, "B K d"]
) -> Summary:
    read = decompose.plain(params)
    return places.summarize(places.locate(read, config, pixels, texts), read, config.patches)
