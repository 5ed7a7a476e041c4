"""MMRL: tokens of a space shared by both towers, projected anew for each of the deeper layers.

Guo & Gu, "MMRL: Multi-Modal Representation Learning for Vision-Language Models", CVPR 2025 (arXiv 2503.08497);
official code github.com/yunncheng/MMRL at 27d8821. With R the K tokens, for each layer j = J..L of a tower its inputs
at the tokens' places are R W_j + b_j: what the layer before has left there is dropped. In the vision tower they stand
beside the patches (attention does not tell places apart), in the text tower behind the beginning of text.

    v = unit(project(class token)),  r = unit(mean over the tokens of LN(tokens) P),  t = unit(text)
    loss = a CE(100 v t) + (1 - a) CE(100 r t) + reg (1 - cos(v, v0)) + reg (1 - cos(t, t0)),   a = 0.7
    prediction = a 100 v t + (1 - a) 100 r t where classes were trained on, the class path alone where not

v0 and t0 are plain CLIP's features of the same image, and of the data set's one prompt. Learned, for ViT-B/16 with
K = 5 and R of width 512: 5 * 512 + 7 * (512 * 768 + 768 + 512 * 512 + 512) + 768 * 512 = 4,992,256 numbers.

Departures: the backbone's own logit scale (of OpenAI's CLIPs: 100) in place of the constant; towers in
`config.compute.dtype` where the official code has float16 under autocast; J follows from the tower's depth, L / 2.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dear_jax.clip import vision
from dear_jax.clip.layers import Params, Tokens, unit
from dear_jax.clip.split import Frozen, Prompts, Seen
from dear_jax.methods import initializers, losses, paths
from dear_jax.methods.contract import CLASS_PATH, Adapter, Method
from dear_jax.roles.decompose import ReadOut


class Settings(NamedTuple):
    """What variants may set apart without compiling again."""

    reg_weight: Float[Array, ""]
    class_weight: Float[Array, ""]  # a, of the class path in loss and prediction


@dataclasses.dataclass(frozen=True)
class MMRL(Method):
    """K shared tokens, a linear map for each layer of each tower, and a path that reads the tokens."""

    count: int = 5  # K
    width: int = 512  # of the shared space

    new_classes: ClassVar[str] = "class_only"

    @property
    def paths(self) -> tuple[str, ...]:
        """The class token's, and the tokens'."""
        return (CLASS_PATH, "representation")

    def init(self, key: PRNGKeyArray, params: Params, prompts: Prompts, start: Any) -> Adapter:
        """The maps of a tower start as copies of one; P starts as CLIP's own did, not as a copy of it.

        Returns:
            tokens `[K, width]`; vision_kernel `[n, width, D]`, vision_bias `[n, D]` and text_kernel, text_bias for the
            n layers from J on; projection `[D, d]`.
        """
        token_key, vision_key, text_key, projection_key = jax.random.split(key, 4)
        config = self.split.config
        shape = (config.vision.width, config.embed_dim)
        return {
            "tokens": initializers.normal(token_key, (self.count, self.width), 0.02),
            **self._maps("vision", vision_key, config.vision.width, self._layers[0]),
            **self._maps("text", text_key, config.text.width, self._layers[1]),
            "projection": initializers.normal(projection_key, shape, config.vision.width**-0.5),
        }

    @property
    def _layers(self) -> tuple[int, int]:
        """From J on, in the vision and the text tower."""
        split, config = self.split, self.split.config
        return config.vision.layers - split.vision_layer + 1, config.text.layers - split.text_layer + 1

    def _maps(self, tower: str, key: PRNGKeyArray, width: int, layers: int) -> Adapter:
        kernel_key, bias_key = jax.random.split(key)
        kernel = initializers.uniform(kernel_key, (self.width, width), self.width)
        bias = initializers.uniform(bias_key, (width,), self.width)
        return {f"{tower}_kernel": jnp.stack([kernel] * layers), f"{tower}_bias": jnp.stack([bias] * layers)}

    def settings_like(self) -> Settings:
        """Two numbers."""
        return jax.eval_shape(lambda: Settings(*jnp.zeros(2)))

    def tokens(self, adapter: Adapter, settings: Any, tower: str) -> Tokens:
        """What enters each layer of a tower, in place of what the layer before has left."""
        values = jnp.einsum("kr,nrd->nkd", adapter["tokens"], adapter[f"{tower}_kernel"])
        return Tokens(values + adapter[f"{tower}_bias"][:, None], jnp.ones(1))

    def projection(self, adapter: Adapter, params: Params) -> Float[Array, "D d"]:
        """P, by which the tokens are read."""
        return adapter["projection"]

    def classes(self, adapter: Adapter, settings: Any, frozen: Frozen) -> Float[Array, "C d"]:
        """Text features t, unit length."""
        return self.split.read_prompts(frozen.params, frozen.prompts, self.tokens(adapter, settings, "text"))

    def features(self, adapter: Adapter, settings: Any, params: Params, seen: Seen) -> Float[Array, "B N d"]:
        """v and r."""
        config = self.split.config
        x = self.split.read_images(params, seen.prefix, self.tokens(adapter, settings, "vision"))
        tokens = vision.final_norm(params, config, x[:, 1:]) @ self.projection(adapter, params)
        of_paths = (vision.project(params, config, x[:, 0]), tokens.mean(axis=1))
        return unit(jnp.stack(of_paths, axis=1))

    def read_out(self, adapter: Adapter, settings: Any, params: Params) -> ReadOut:
        """The class token through CLIP's projection, and the mean over the tokens through P."""
        frozen = jnp.asarray(params["visual_projection"]["kernel"], jnp.float32)
        kernels = jnp.stack([frozen, self.projection(adapter, params)])
        first = 1 + self.split.config.patches
        rows = ((0,), tuple(range(first, first + self.count)))
        tokens = self.tokens(adapter, settings, "vision")
        return ReadOut(params, kernels, rows, tokens, first_layer=self.split.vision_layer)

    def weights(self, adapter: Adapter, settings: Any) -> Float[Array, "N"]:
        """a and 1 - a."""
        return jnp.stack([settings.class_weight, 1 - settings.class_weight])

    def loss(
        self,
        adapter: Adapter,
        settings: Any,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The cross-entropies of both paths by their weights, and the distances to plain CLIP in both towers."""
        plain = seen.features[: len(labels)]
        classes = self.classes(adapter, settings, frozen)
        features = self.features(adapter, settings, frozen.params, seen)[: len(labels)]
        logits, weights = paths.cosine_logits(features, classes, frozen.params), self.weights(adapter, settings)
        of_paths = jnp.stack([losses.cross_entropy(logits[:, i], labels) for i in range(2)])
        image, text = (
            losses.cosine_distance(features[:, 0], plain),
            losses.cosine_distance(classes, frozen.prompts.features),
        )
        parts = {
            "cross_entropy": of_paths @ weights,
            "regularization": image + text,
            "accuracy": jnp.mean(jnp.argmax(paths.combine(logits, weights), axis=-1) == labels),
        }
        return parts["cross_entropy"] + settings.reg_weight * parts["regularization"], parts
