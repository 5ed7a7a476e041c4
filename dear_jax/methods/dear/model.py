"""The adapted CLIP: features of the class and attribute paths, and their logits (methods/dear sections 2 to 4)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax.clip import packed_text, packing, text, vision
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params, Tokens
from dear_jax.clip.packing import Packing
from dear_jax.methods.dear.tokens import Adapter, Structure


class Settings(NamedTuple):
    """What distinguishes the variants of a run: plain arrays, so that changing one never recompiles."""

    head_mask: Bool[Array, "L H T T"]
    beta: Float[Array, ""]  # share of the learned token at each layer
    reg_weight: Float[Array, ""]  # lambda_reg
    fusion_weight: Float[Array, ""]  # lambda_fusion


class Prompts(NamedTuple):
    """The frozen side of a set of class prompts, computed once per run."""

    prefix: Float[Array, "G N D"]  # output of the text layers before the learned tokens, of the prompts' own parts
    template: Float[Array, "R D"]  # the same, of the leading positions at which all prompts are alike
    packing: Packing  # where the own parts stand
    features: Float[Array, "C d"]  # of plain CLIP, unit length


@dataclasses.dataclass(frozen=True)
class Model:
    """Pure functions of one architecture and one adapter structure, in the towers' compute dtype."""

    config: CLIPConfig
    structure: Structure
    dtype: jnp.dtype = jnp.float32
    regularization: str = "cosine"  # form of L_reg, a key of losses.DISTANCES
    class_chunk: int = 0  # class prompts whose gradient is computed at a time, to bound memory; 0: all
    class_shards: int = 1  # groups of devices that the class prompts are dealt to, each with its own chunks

    def spread(self, shards: int, class_chunk: int) -> "Model":
        """The same, for so many groups of devices, each with so many class prompts at a time (0: all)."""
        return dataclasses.replace(self, class_shards=shards, class_chunk=class_chunk)

    def encode_prompts(self, params: Params, token_ids: Int[np.ndarray, "C T"]) -> Prompts:
        """Run what no adapter changes: the text prefix, and plain CLIP's text features.

        The ids are looked at (not traced): what they share decides the shapes of the result.
        """
        ids = np.asarray(token_ids)
        with jax.ensure_compile_time_eval():  # also where the parameters are shapes alone
            ends = np.asarray(text.end_positions(jnp.asarray(ids), self.config))
        shared = packing.shared_length(ids, ends)
        packed = packing.pack(ends, shared, ids.shape[1], self.class_chunk, self.class_shards)
        return self._encode_prompts(params, ids, packed, shared)

    @functools.partial(jax.jit, static_argnums=(0, 4))
    def _encode_prompts(self, params: Params, token_ids: Int[Array, "C T"], packed: Packing, shared: int) -> Prompts:
        layer, last = self.structure.text_layer, self.config.text.layers
        embedded = text.embed(params, self.config, token_ids[:1, :shared], self.dtype)[0]
        template, seen = packed_text.run_shared(params, self.config, embedded, 1, layer - 1)
        x = text.embed_at(params, self.config, token_ids, packed.sources, self.dtype)
        prefix = packed_text.run_rows(params, self.config, x, seen, packed, 1, layer - 1)
        _, seen = packed_text.run_shared(params, self.config, template, layer, last)
        ends = packed_text.end_rows(params, self.config, prefix, seen, packed, layer)
        return Prompts(prefix, template, packed, unit(text.project_ends(params, self.config, ends)))

    def text_features(
        self, adapter: Adapter, params: Params, prompts: Prompts, beta: Float[Array, ""]
    ) -> Float[Array, "C d"]:
        """Adapted text features w, unit length."""
        tokens, layer = Tokens(adapter["text_tokens"], beta), self.structure.text_layer
        last = self.config.text.layers
        _, shared = packed_text.run_shared(params, self.config, prompts.template, layer, last, tokens)
        x = packed_text.end_rows(params, self.config, prompts.prefix, shared, prompts.packing, layer, self.class_shards)
        return unit(text.project_ends(params, self.config, x))

    def image_prefix(self, params: Params, images: UInt8[Array, "B h w 3"]) -> Float[Array, "B 1+P D"]:
        """Images to the input of layer J, which no adapter changes."""

        def encode(images: Array) -> Array:
            pixels = vision.normalize(images, self.config)
            return vision.prefix(params, self.config, pixels, self.structure.vision_layer - 1, self.dtype)

        return cast(Array, self.in_groups(encode, images))

    def plain_features(self, params: Params, prefix: Float[Array, "B 1+P D"]) -> Float[Array, "B d"]:
        """Frozen CLIP's image features, unit length."""

        def encode(prefix: Array) -> Array:
            x = vision.read_suffix(params, self.config, prefix, self.structure.vision_layer)
            return unit(vision.project(params, self.config, x[:, 0]))

        return cast(Array, self.in_groups(encode, prefix))

    def in_groups(self, encode: Callable[[Any], Any], images: Any) -> Any:
        """`vision.in_groups`, but where images are spread over devices: there are few on each."""
        return encode(images) if self.class_shards > 1 else vision.in_groups(encode, images)

    def image_features(
        self, adapter: Adapter, params: Params, settings: Settings, prefix: Float[Array, "B 1+P D"]
    ) -> Float[Array, "B 1+K d"]:
        """Adapted features of every path, unit length: f_cls first, then f_attr of each attribute.

        The class token goes through the frozen projection, attribute tokens through the learned one.
        """
        tokens = Tokens(adapter["vision_tokens"], settings.beta)
        layer = self.structure.vision_layer

        def encode(prefix: Array) -> Array:
            return vision.read_suffix(params, self.config, prefix, layer, tokens, settings.head_mask)

        x = self.in_groups(encode, prefix)
        attributes = vision.final_norm(params, self.config, x[:, 1:])
        projected = jnp.einsum("bkD,kDd->bkd", attributes, self._attribute_projections(adapter))
        class_path = vision.project(params, self.config, x[:, :1])
        return unit(jnp.concatenate([class_path, projected], axis=1))

    def _attribute_projections(self, adapter: Adapter) -> Float[Array, "K D d"]:
        """One matrix per attribute, or the shared one for each."""
        matrices = adapter["attribute_projection"]
        return jnp.broadcast_to(matrices, (self.structure.count, *matrices.shape[1:]))


def path_logits(
    features: Float[Array, "B 1+K d"], classes: Float[Array, "C d"], scale: Float[Array, ""]
) -> Float[Array, "B 1+K C"]:
    """Logits of every path: scale * cos(f_i, w_c)."""
    return scale * jnp.einsum("bid,cd->bic", features, classes)


def logit_scale(params: Params) -> Float[Array, ""]:
    """exp of the backbone's own logit scale, at most 100 as in CLIP's training."""
    return jnp.minimum(jnp.exp(params["logit_scale"]), 100.0)


def unit(x: Float[Array, "*B d"]) -> Float[Array, "*B d"]:
    """Scale to unit length, so that products are cosines."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
