"""The adapted CLIP: features of the class and attribute paths, and their logits (METHOD.md sections 2 to 4)."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from dear_jax.adapt.tokens import Adapter, Structure
from dear_jax.clip import text, vision
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params, Tokens


class Settings(NamedTuple):
    """What distinguishes the variants of a run: plain arrays, so that changing one never recompiles."""

    head_mask: Bool[Array, "L H T T"]
    beta: Float[Array, ""]  # share of the learned token at each layer
    reg_weight: Float[Array, ""]  # lambda_reg
    fusion_weight: Float[Array, ""]  # lambda_fusion


class Prompts(NamedTuple):
    """The frozen side of a set of class prompts, computed once per run."""

    prefix: Float[Array, "C T D"]  # output of the text layers before the learned tokens
    positions: Int[Array, "C"]  # of the end-of-text token
    features: Float[Array, "C d"]  # of plain CLIP, unit length


@dataclasses.dataclass(frozen=True)
class Model:
    """Pure functions of one architecture and one adapter structure, in the towers' compute dtype."""

    config: CLIPConfig
    structure: Structure
    dtype: jnp.dtype = jnp.float32
    regularization: str = "cosine"  # form of L_reg, a key of losses.DISTANCES

    def encode_prompts(self, params: Params, token_ids: Int[Array, "C T"]) -> Prompts:
        """Run what no adapter changes: the text prefix, and plain CLIP's text features."""
        positions = text.end_positions(token_ids, self.config)
        layer = self.structure.text_layer
        x = text.prefix(params, self.config, token_ids, layer - 1, self.dtype)
        plain = text.suffix(params, self.config, x, layer)
        return Prompts(x, positions, unit(text.project(params, self.config, plain, positions)))

    def text_features(
        self, adapter: Adapter, params: Params, prompts: Prompts, beta: Float[Array, ""]
    ) -> Float[Array, "C d"]:
        """Adapted text features w, unit length."""
        tokens = Tokens(adapter["text_tokens"], beta)
        x = text.suffix(params, self.config, prompts.prefix, self.structure.text_layer, tokens)
        positions = prompts.positions + self.structure.text_count
        return unit(text.project(params, self.config, x, positions))

    def image_prefix(self, params: Params, images: UInt8[Array, "B h w 3"]) -> Float[Array, "B 1+P D"]:
        """Images to the input of layer J, which no adapter changes."""
        pixels = vision.normalize(images, self.config)
        return vision.prefix(params, self.config, pixels, self.structure.vision_layer - 1, self.dtype)

    def plain_features(self, params: Params, prefix: Float[Array, "B 1+P D"]) -> Float[Array, "B d"]:
        """Frozen CLIP's image features, unit length."""
        x, _ = vision.suffix(params, self.config, prefix, self.structure.vision_layer)
        return unit(vision.project(params, self.config, x[:, 0]))

    def image_features(
        self, adapter: Adapter, params: Params, settings: Settings, prefix: Float[Array, "B 1+P D"]
    ) -> Float[Array, "B 1+K d"]:
        """Adapted features of every path, unit length: f_cls first, then f_attr of each attribute.

        The class token goes through the frozen projection, attribute tokens through the learned one.
        """
        tokens = Tokens(adapter["vision_tokens"], settings.beta)
        layer = self.structure.vision_layer
        x, _ = vision.suffix(params, self.config, prefix, layer, tokens, settings.head_mask)
        attributes = vision.final_norm(params, self.config, x[:, -self.structure.count :])
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
