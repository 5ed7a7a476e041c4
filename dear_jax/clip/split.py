"""Both towers of frozen CLIP, each cut in two: a prefix that no method changes, and a suffix that learned tokens enter.

images, class prompts -> prefixes and plain features, once (`look`, `encode_prompts`) -> the suffix with whatever a
method learns (`read_images`, `read_prompts`). Every seed, variant and method that cuts at the same layers shares the
prefix (methods/dear section 6). Nothing here knows what the tokens stand for.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax.clip import packed_text, packing, text, vision
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params, Tokens, unit
from dear_jax.clip.packing import Packing

PLAIN_PROMPTS = 256  # that pass through plain CLIP at a time


class Prompts(NamedTuple):
    """The frozen side of a set of class prompts, computed once per run."""

    prefix: Float[Array, "G R D"]  # output of the text layers before J, of the prompts' own parts
    template: Float[Array, "shared D"]  # the same, of the leading positions at which all prompts are alike
    packing: Packing  # where the own parts stand
    features: Float[Array, "C d"]  # of plain CLIP, unit length
    ids: Int[Array, "C T"]  # of the prompts
    own: Int[Array, "G R"] | None = None  # where own tokens stand, see `OwnTokens`: flat place in [C * K] of each row


class OwnTokens(NamedTuple):
    """Learned tokens that each prompt has for itself, in the places of some of its own (`encode_prompts`, `places`).

    They replace, before one layer, what the layer before has left there.
    """

    values: Float[Array, "C K D"]
    layer: int  # counted from 1, of the suffix


class Seen(NamedTuple):
    """What frozen CLIP makes of a batch of images, whatever the adapter."""

    prefix: Float[Array, "B Q D"]  # input of vision layer J
    features: Float[Array, "B d"]  # of plain CLIP, unit length


class Frozen(NamedTuple):
    """Arrays that training never changes."""

    params: Params  # of CLIP
    prompts: Prompts  # of the classes at hand


@dataclasses.dataclass(frozen=True)
class Split:
    """Pure functions of one architecture, cut before one layer of each tower, in the towers' compute dtype."""

    config: CLIPConfig
    vision_layer: int  # J of the vision tower, counted from 1: the first layer of its suffix
    text_layer: int  # J of the text tower
    dtype: DTypeLike = jnp.float32
    class_chunk: int = 0  # class prompts whose gradient is computed at a time, to bound memory; 0: all
    class_shards: int = 1  # groups of devices that the class prompts are dealt to, each with its own chunks

    def spread(self, shards: int, class_chunk: int) -> "Split":
        """The same, for so many groups of devices, each with so many class prompts at a time (0: all)."""
        return dataclasses.replace(self, class_shards=shards, class_chunk=class_chunk)

    def encode_prompts(
        self, params: Params, token_ids: Int[np.ndarray, "C T"], places: Int[np.ndarray, "C K"] | None = None
    ) -> Prompts:
        """Run what no adapter changes: the text prefix, and plain CLIP's text features.

        The ids are looked at (not traced): what they share decides the shapes of the result.

        Args:
            params: CLIP's.
            token_ids: of the prompts.
            places: positions of each prompt at which it has tokens of its own (`OwnTokens`); none: there are none.
        """
        ids, ends = np.asarray(token_ids), self.ends(token_ids)
        shared = packing.shared_length(ids, ends)
        if places is not None:
            shared = min(shared, int(places.min()))
        packed = packing.pack(ends, shared, ids.shape[1], self.class_chunk, self.class_shards)
        prompts = self._encode_prompts(params, ids, packed, shared)
        if places is None:
            return prompts
        flat = np.full(ids.size, places.size, np.int32)
        flat[(np.arange(len(ids))[:, None] * ids.shape[1] + places).reshape(-1)] = np.arange(places.size)
        own = np.take(np.append(flat, places.size), np.minimum(packed.sources, ids.size))
        return prompts._replace(own=jnp.asarray(own))

    def ends(self, token_ids: Int[np.ndarray, "C T"]) -> Int[np.ndarray, "C"]:
        """Position of each prompt's end-of-text token."""
        with jax.ensure_compile_time_eval():  # also where the parameters are shapes alone
            return np.asarray(text.end_positions(jnp.asarray(np.asarray(token_ids)), self.config))

    @functools.partial(jax.jit, static_argnums=(0, 4))
    def _encode_prompts(self, params: Params, token_ids: Int[Array, "C T"], packed: Packing, shared: int) -> Prompts:
        layer, last = self.text_layer, self.config.text.layers
        embedded = text.embed(params, self.config, token_ids[:1, :shared], self.dtype)[0]
        template, seen = packed_text.run_shared(params, self.config, embedded, 1, layer - 1)
        x = text.embed_at(params, self.config, token_ids, packed.sources, self.dtype)
        prefix = packed_text.run_rows(params, self.config, x, seen, packed, 1, layer - 1)
        _, seen = packed_text.run_shared(params, self.config, template, layer, last)
        ends = packed_text.end_rows(params, self.config, prefix, seen, packed, layer)
        return Prompts(prefix, template, packed, unit(text.project_ends(params, self.config, ends)), token_ids)

    def read_prompts(
        self,
        params: Params,
        prompts: Prompts,
        tokens: Tokens | None = None,
        replace: bool = False,
        own: Sequence[OwnTokens] = (),
    ) -> Float[Array, "C d"]:
        """Text features, unit length, with learned tokens from layer J on.

        Args:
            params: CLIP's.
            prompts: of the classes, from this very split.
            tokens: stand behind the beginning of text.
            replace: they take the places of the words that stand there, which all prompts share, instead of moving
                them on; they have the positions' embeddings then, if any, from the caller.
            own: tokens of each prompt's own.
        """
        layer, last = self.text_layer, self.config.text.layers
        _, shared = packed_text.run_shared(params, self.config, prompts.template, layer, last, tokens, replace)
        enter = None if prompts.own is None else packed_text.Own(prompts.own, {o.layer: o.values for o in own})
        x = packed_text.end_rows(
            params, self.config, prompts.prefix, shared, prompts.packing, layer, self.class_shards, enter
        )
        return unit(text.project_ends(params, self.config, x))

    def plain_features(
        self, params: Params, token_ids: Int[np.ndarray, "M C T"], unit_mean: bool = True
    ) -> Float[Array, "C d"]:
        """Plain CLIP's text features of classes, unit length, each the mean over M prompts.

        Args:
            params: CLIP's.
            token_ids: of M prompts for each class.
            unit_mean: the mean is that of unit features, else of features as they are.
        """
        return _plain_features(self.config, self.dtype, unit_mean, params, jnp.asarray(token_ids))

    def look(self, params: Params, images: UInt8[Array, "B h w 3"]) -> Seen:
        """The frozen side of images: both branches of a method, the plain and the adapted one, share the prefix."""

        def encode(images: Array) -> Array:
            pixels = vision.normalize(images, self.config)
            return vision.prefix(params, self.config, pixels, self.vision_layer - 1, self.dtype)

        prefix = self.in_groups(encode, images)
        return Seen(prefix, unit(self.image_features(params, prefix)))

    def image_features(self, params: Params, prefix: Float[Array, "B Q D"]) -> Float[Array, "B d"]:
        """Plain CLIP's features of images, given `Seen.prefix`; not of unit length."""

        def finish(prefix: Array) -> Array:
            x = vision.read_suffix(params, self.config, prefix, self.vision_layer)
            return vision.project(params, self.config, x[:, 0])

        return cast(Array, self.in_groups(finish, prefix))

    def read_images(
        self,
        params: Params,
        prefix: Float[Array, "B Q D"],
        tokens: Tokens | None = None,
        head_mask: Bool[Array, "L H T T"] | None = None,
    ) -> Float[Array, "B N D"]:
        """The class token's output and, behind it, that of each token that enters before layer J.

        The rows are those before the final LayerNorm; see `vision.read_suffix`.
        """

        def encode(images: tuple[Array, Array]) -> Array:
            prefix, numbers = images
            return vision.read_suffix(params, self.config, prefix, self.vision_layer, tokens, head_mask, numbers)

        return cast(Array, self.in_groups(encode, (prefix, jnp.arange(len(prefix)))))

    def in_groups(self, encode: Callable[[Any], Any], images: Any) -> Any:
        """`vision.in_groups`, but where images are spread over devices: there are few on each."""
        return encode(images) if self.class_shards > 1 else vision.in_groups(encode, images)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _plain_features(
    config: CLIPConfig, dtype: DTypeLike, unit_mean: bool, params: Params, token_ids: Int[Array, "M C T"]
) -> Float[Array, "C d"]:
    def encode(ids: Int[Array, "C T"]) -> Float[Array, "C d"]:
        """One template after the other, a few prompts at a time: memory is that of these."""
        features = jax.lax.map(
            lambda prompt: text.encode(params, config, prompt[None], dtype)[0], ids, batch_size=PLAIN_PROMPTS
        )
        return unit(features) if unit_mean else features

    return unit(jax.lax.map(encode, token_ids).mean(axis=0))


def plain_split(config: CLIPConfig, dtype: DTypeLike = jnp.float32, class_chunk: int = 0) -> Split:
    """A split for plain CLIP alone, where nothing enters: before the last layers, of which one row is read."""
    return Split(config, config.vision.layers, config.text.layers, dtype, class_chunk)


def logit_scale(params: Params) -> Float[Array, ""]:
    """exp of the backbone's own logit scale, at most 100 as in CLIP's training."""
    return jnp.minimum(jnp.exp(params["logit_scale"]), 100.0)
