"""DeAR behind the contract of a method: the adapted towers, fusion, and the loss (methods/dear sections 2 to 4)."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dear_jax.clip import vision
from dear_jax.clip.layers import Params, Tokens, unit
from dear_jax.clip.split import Frozen, Seen
from dear_jax.methods import losses, paths
from dear_jax.methods.contract import CLASS_PATH, Adapter, Method
from dear_jax.roles.decompose import ReadOut

PROJECTIONS = ("copy", "normal")


class Settings(NamedTuple):
    """What distinguishes the variants of a run: plain arrays, so that changing one never recompiles."""

    head_mask: Bool[Array, "L H T T"]
    beta: Float[Array, ""]  # share of the learned token at each layer
    reg_weight: Float[Array, ""]  # lambda_reg
    fusion_weight: Float[Array, ""]  # lambda_fusion


@dataclasses.dataclass(frozen=True)
class Start:
    """Where an adapter starts: values alone, so that variants of one structure may start apart."""

    init_std: float = 0.02  # of the tokens
    class_start: float = 0.9  # alpha of the class path, in (0, 1)
    projection_init: str = "copy"  # of the attribute projection, one of PROJECTIONS
    seed: int | None = None  # of tokens and projection; None: the run's


REGULARIZED = ("class", "all")  # the class path alone, or the mean over all paths


@dataclasses.dataclass(frozen=True)
class DeAR(Method):
    """K attribute tokens in the vision tower, K_t in the text tower, a path for each attribute."""

    attributes: tuple[str, ...]  # K names, one vision token each
    text_count: int  # K_t
    shared_projection: bool = True  # one attribute projection for all attributes, or one each
    regularization: str = "cosine"  # form of L_reg, a key of losses.DISTANCES
    regularized: str = "class"  # which paths L_reg holds near CLIP's image feature, one of REGULARIZED

    @property
    def paths(self) -> tuple[str, ...]:
        """The class path and one for each attribute."""
        return (CLASS_PATH, *self.attributes)

    def init(self, key: PRNGKeyArray, params: Params, prompts: Any, start: Start) -> Adapter:
        """A fresh adapter, float32. `key` counts where the start has no seed of its own; the prompts do not.

        Returns:
            vision_tokens `[K, D]` and text_tokens `[K_t, D]`, normal with standard deviation init_std;
            attribute_projection `[1, D, d]` or, not shared, `[K, D, d]`, copies of the frozen one or normal as CLIP's
            own initialisation; fusion `[1+K]`, theta with alpha_cls = class_start and equal shares of the rest.
        """
        config, count = self.split.config, len(self.attributes)
        key = key if start.seed is None else jax.random.key(start.seed)
        vision_key, text_key = jax.random.split(key)

        def normal(key: PRNGKeyArray, shape: tuple[int, int]) -> Array:
            return start.init_std * jax.random.normal(key, shape, jnp.float32)

        frozen = jnp.asarray(params["visual_projection"]["kernel"], jnp.float32)
        projections = jnp.stack([frozen] * (1 if self.shared_projection else count))
        if start.projection_init == "normal":
            projections = config.vision.width**-0.5 * jax.random.normal(
                jax.random.fold_in(key, 2), projections.shape, jnp.float32
            )
        share = count * start.class_start / (1 - start.class_start)
        return {
            "vision_tokens": normal(vision_key, (count, config.vision.width)),
            "text_tokens": normal(text_key, (self.text_count, config.text.width)),
            "attribute_projection": projections,
            "fusion": jnp.zeros(1 + count).at[0].set(math.log(share)),
        }

    def settings_like(self) -> Settings:
        """The mask is of the layers from J on, of all heads and of the T = 1 + P + K tokens."""
        tower, length = self.split.config.vision, 1 + self.split.config.patches + len(self.attributes)
        shape = (tower.layers - self.split.vision_layer + 1, tower.heads, length, length)
        return jax.eval_shape(lambda: Settings(jnp.zeros(shape, bool), *jnp.zeros(3, jnp.float32)))

    def classes(self, adapter: Adapter, settings: Settings, frozen: Frozen) -> Float[Array, "C d"]:
        """Adapted text features w, unit length."""
        entering = Tokens(adapter["text_tokens"][None], settings.beta[None])
        return self.split.read_prompts(frozen.params, frozen.prompts, entering)

    def features(self, adapter: Adapter, settings: Settings, params: Params, seen: Seen) -> Float[Array, "B N d"]:
        """Adapted features of every path, unit length: f_cls first, then f_attr of each attribute.

        The class token goes through the frozen projection, attribute tokens through the learned one.
        """
        config = self.split.config
        entering = self._vision_tokens(adapter, settings)
        x = self.split.read_images(params, seen.prefix, entering, settings.head_mask)
        attributes = vision.final_norm(params, config, x[:, 1:])
        projected = jnp.einsum("bkD,kDd->bkd", attributes, self._attribute_projections(adapter))
        class_path = vision.project(params, config, x[:, :1])
        return unit(jnp.concatenate([class_path, projected], axis=1))

    def read_out(self, adapter: Adapter, settings: Settings, params: Params) -> ReadOut:
        """Each path is a row of its own, through a projection of its own, under the role mask."""
        frozen = jnp.asarray(params["visual_projection"]["kernel"], jnp.float32)
        kernels = jnp.concatenate([frozen[None], self._attribute_projections(adapter)])
        first = 1 + self.split.config.patches
        rows = ((0,), *((first + index,) for index in range(len(self.attributes))))
        tokens = self._vision_tokens(adapter, settings)
        return ReadOut(params, kernels, rows, tokens, settings.head_mask, self.split.vision_layer)

    def _vision_tokens(self, adapter: Adapter, settings: Settings) -> Tokens:
        return Tokens(adapter["vision_tokens"][None], settings.beta[None])

    def _attribute_projections(self, adapter: Adapter) -> Float[Array, "K D d"]:
        """One matrix per attribute, or the shared one for each."""
        matrices = adapter["attribute_projection"]
        return jnp.broadcast_to(matrices, (len(self.attributes), *matrices.shape[1:]))

    def weights(self, adapter: Adapter, settings: Settings) -> Float[Array, "N"]:
        """alpha = softmax(theta)."""
        return jax.nn.softmax(adapter["fusion"])

    def loss(
        self,
        adapter: Adapter,
        settings: Settings,
        frozen: Frozen,
        seen: Seen,
        labels: Int[Array, "B"],
        carried: Any = (),
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """CE(fused logits) + lambda_reg * L_reg + lambda_fusion * L_fusion (methods/dear section 4), and its parts."""
        plain = seen.features[: len(labels)]
        classes = self.classes(adapter, settings, frozen)
        features = self.features(adapter, settings, frozen.params, seen)[: len(labels)]
        logits = paths.combine(paths.cosine_logits(features, classes, frozen.params), self.weights(adapter, settings))

        distance = losses.DISTANCES[self.regularization]
        of_images = distance(features[:, 0], plain)
        if self.regularized == "all":
            every = jnp.broadcast_to(plain[:, None], features.shape)
            of_images = distance(features.reshape(-1, features.shape[-1]), every.reshape(-1, plain.shape[-1]))
        parts = losses.of_logits(logits, labels) | {
            "regularization": of_images + distance(classes, frozen.prompts.features),
            "fusion": class_share_loss(adapter["fusion"]),
            "class_weight": self.weights(adapter, settings)[0],
        }
        total = (
            parts["cross_entropy"]
            + settings.reg_weight * parts["regularization"]
            + settings.fusion_weight * parts["fusion"]
        )
        return total, parts


def class_share_loss(theta: Float[Array, "N"]) -> Float[Array, ""]:
    """L_fusion = -log alpha_cls, alpha = softmax(theta): keeps the class path in use; at least 0."""
    return -jax.nn.log_softmax(theta)[0]
