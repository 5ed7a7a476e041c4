"""MaPLe: deep prompts of the text tower, and linear maps that make those of the vision tower from them.

Khattak et al., "MaPLe: Multi-modal Prompt Learning", CVPR 2023 (arXiv 2210.03117); official code
github.com/muzairkhattak/multimodal-prompt-learning at 69bce21. Of each block j = 1..depth, see `deep_prompts`:

    text prompts P_j,  vision prompts P_j W_j + b_j;  loss = CE(100 v t)

P_1 starts from the words "a photo" ("of a" stays as it is), the others at random; W_j, b_j of j = 2..depth start as
copies of one layer, those of block 1 are another draw. Learned, for ViT-B/16, 2 prompts and depth 9:
9 * (2 * 512 + 512 * 768 + 768) = 3,555,072 numbers; depth 3: 1,185,024.

Departures: the maps go from the text tower's width to the vision tower's where the official code has 512 and 768;
towers are in `config.compute.dtype` and prompts in float32 where it has both in float16.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts, Seen
from dear_jax.methods import deep_prompts, initializers, losses
from dear_jax.methods.contract import Adapter, Targets
from dear_jax.methods.deep_prompts import DeepPrompts


class Settings(NamedTuple):
    """None: variants that differ in an array differ in the optimizer's rates alone."""


@dataclasses.dataclass(frozen=True)
class MaPLe(DeepPrompts):
    """K prompts in each of the first blocks of both towers, coupled block by block."""

    count: int = 2  # K
    depth: int = 9

    @property
    def context(self) -> int:
        """K words are replaced."""
        return self.count

    def targets(self, dataset: str, templates: tuple[str, ...]) -> Targets:
        """Plain text features are not read: those that cost nothing."""
        return Targets((self.prompt(dataset, templates[0]),))

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """A fresh adapter.

        Returns:
            prompts `[depth, K, D]` of the text tower; kernel `[depth, D, W]` and bias `[depth, W]` to those of the
            vision tower.
        """
        prompt_key, *map_keys = jax.random.split(key, 3)
        width, vision_width = self.split.config.text.width, self.split.config.vision.width

        def draw(key: PRNGKeyArray) -> tuple[Array, Array]:
            kernel_key, bias_key = jax.random.split(key)
            return (
                initializers.uniform(kernel_key, (width, vision_width), width),
                initializers.uniform(bias_key, (vision_width,), width),
            )

        first, deeper = map(draw, map_keys)
        kernel, bias = (jnp.stack([one, *[other] * (self.depth - 1)]) for one, other in zip(first, deeper, strict=True))
        values = deep_prompts.from_words(prompt_key, params, prompts, self.depth, self.count)
        return {"prompts": values, "kernel": kernel, "bias": bias}

    def settings_like(self) -> Settings:
        """Nothing."""
        return Settings()

    def prompts(self, adapter: Adapter) -> tuple[Float[Array, "depth K D"], Float[Array, "depth K W"]]:
        """P_j and P_j W_j + b_j."""
        values = adapter["prompts"]
        coupled = jnp.einsum("nkd,ndw->nkw", values, adapter["kernel"]) + adapter["bias"][:, None]
        return values, coupled

    def loss(
        self,
        adapter: Adapter,
        settings: Any,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The cross-entropy."""
        classes = self.classes(adapter, settings, frozen)
        logits = self.logits(adapter, settings, frozen.params, classes, seen)[: len(labels), 0]
        parts = losses.of_logits(logits, labels)
        return parts["cross_entropy"], parts
