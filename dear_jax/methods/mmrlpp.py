"""MMRL++: MMRL with fewer numbers, and tokens that go on from layer to layer.

Guo & Gu, "MMRL++: Parameter-Efficient and Interaction-Aware Representation Learning for Vision-Language Models",
IJCV 2025 (arXiv 2505.10088); official code github.com/yunncheng/MMRL at 27d8821. What differs from MMRL, see there:

    the map of layer j is x (W + A_j B_j)^T + b_j, with one W for a tower and A_j B_j of rank 4
    P = CLIP's own projection + A B, of rank 64
    layer J takes the projected tokens, each later one beta * projected + (1 - beta) * what the layer before has left

Learned, for ViT-B/16 with K = 5: 5 * 512 + (512 * 768 + 7 * (4 * 768 + 4 * 512 + 768)) + (512 * 512 + 7 * (4 * 512 +
4 * 512 + 512)) + 64 * (768 + 512) = 813,312 numbers.

Departures: those of MMRL. The official code tests cross-dataset transfer with a beta chosen for each target, which is
tuned on them; here beta is the training's everywhere.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dear_jax.clip.layers import Params, Tokens
from dear_jax.clip.split import Prompts
from dear_jax.methods import initializers
from dear_jax.methods.contract import Adapter
from dear_jax.methods.mmrl import MMRL


class Settings(NamedTuple):
    """What variants may set apart without compiling again."""

    reg_weight: Float[Array, ""]
    class_weight: Float[Array, ""]  # a, of the class path in loss and prediction
    beta: Float[Array, ""]  # share of the projected tokens at each layer but the first


@dataclasses.dataclass(frozen=True)
class MMRLPP(MMRL):
    """K shared tokens, one linear map for each tower with an addition of low rank for each layer."""

    rank: int = 4  # of the maps' additions
    projection_rank: int = 64  # of that of the tokens' projection

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """B and the projection's start at 0, so that all layers start alike and P at CLIP's own.

        Returns:
            tokens `[K, width]`; vision_kernel `[width, D]`, vision_a `[n, D, rank]`, vision_b `[n, rank, width]`,
            vision_bias `[n, D]` and the same of text for the n layers from J on; projection_a `[D, 64]`,
            projection_b `[64, d]`.
        """
        token_key, vision_key, text_key, projection_key = jax.random.split(key, 4)
        config = self.split.config
        shape = (config.vision.width, self.projection_rank)
        return {
            "tokens": initializers.normal(token_key, (self.count, self.width), 0.02),
            **self._maps("vision", vision_key, config.vision.width, self._layers[0]),
            **self._maps("text", text_key, config.text.width, self._layers[1]),
            "projection_a": initializers.uniform(projection_key, shape, self.projection_rank),
            "projection_b": jnp.zeros((self.projection_rank, config.embed_dim)),
        }

    def _maps(self, tower: str, key: PRNGKeyArray, width: int, layers: int) -> Adapter:
        kernel_key, bias_key, a_key = jax.random.split(key, 3)
        bias = initializers.uniform(bias_key, (width,), self.width)
        return {
            f"{tower}_kernel": initializers.uniform(kernel_key, (self.width, width), self.width),
            # PyTorch's default takes the second axis for the input: the rank.
            f"{tower}_a": initializers.uniform(a_key, (layers, width, self.rank), self.rank),
            f"{tower}_b": jnp.zeros((layers, self.rank, self.width)),
            f"{tower}_bias": jnp.stack([bias] * layers),
        }

    def settings_like(self) -> Any:
        """Three numbers."""
        return jax.eval_shape(lambda: Settings(*jnp.zeros(3)))

    def tokens(self, adapter: Adapter, settings: Any, tower: str) -> Tokens:
        """What enters each layer of a tower; at J all of it, later the share beta."""
        tokens = adapter["tokens"]
        own = jnp.einsum("kr,nar,nda->nkd", tokens, adapter[f"{tower}_b"], adapter[f"{tower}_a"])
        values = (tokens @ adapter[f"{tower}_kernel"])[None] + own + adapter[f"{tower}_bias"][:, None]
        return Tokens(values, settings.beta[None])

    def projection(self, adapter: Adapter, params: Params) -> Float[Array, "D d"]:
        """P = CLIP's own + A B."""
        frozen = params["visual_projection"]["kernel"].astype(jnp.float32)
        return frozen + adapter["projection_a"] @ adapter["projection_b"]
