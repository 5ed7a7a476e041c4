"""The inputs of the speed benchmarks: CLIP ViT-B/16 with random weights, made-up images, prompts like ImageNet's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int, UInt8

from dear_jax.clip import tokenizer
from dear_jax.clip.checkpoints import architectures, weights
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.methods.dear import mask, patterns, tokens
from dear_jax.methods.dear.model import Model, Settings
from dear_jax.training import optimizer as optimizers
from dear_jax.training import step

VIT_B16 = architectures.OPENAI["openai/clip-vit-base-patch16"]
ATTRIBUTES = ("color", "shape", "texture", "object", "position")
TEMPLATE, PERIOD = (320, 1125, 539, 320), 269  # "a photo of a", "."
# How many of ImageNet's 1000 class names (open_clip's list) CLIP's tokenizer cuts into how many tokens.
NAME_LENGTHS = {1: 246, 2: 508, 3: 154, 4: 50, 5: 22, 6: 10, 7: 8, 9: 1, 12: 1}
BETA, REG_WEIGHT, FUSION_WEIGHT, LEARNING_RATE = 0.9, 1.0, 0.1, 1e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """One size of the training step."""

    classes: int
    batch: int  # images per seed
    seeds: int = 1
    variants: int = 1
    image_size: int = 224
    dtype: str = "float32"
    class_chunk: int = 0

    @property
    def config(self) -> CLIPConfig:
        """The architecture."""
        return dataclasses.replace(VIT_B16, image_size=self.image_size)

    @property
    def model(self) -> Model:
        """With the default structure."""
        structure = tokens.make_structure(
            self.config, attributes=ATTRIBUTES, text_count=5, vision_layer=None, text_layer=None
        )
        return Model(self.config, structure, jnp.dtype(self.dtype), class_chunk=self.class_chunk)

    def params(self) -> Params:
        """Random weights."""
        return weights.initialize(self.config, seed=0)

    def token_ids(self) -> Int[np.ndarray, "C T"]:
        """The prompts "a photo of a NAME." with names of as many tokens as ImageNet's, at the full context length."""
        generator = np.random.default_rng(0)
        lengths = generator.choice(list(NAME_LENGTHS), self.classes, p=np.array([*NAME_LENGTHS.values()]) / 1000)
        lengths[0] = max(NAME_LENGTHS)  # every class set has the longest, so that sizes compare
        ids = np.zeros((self.classes, self.config.context_length), np.int32)
        for row, length in zip(ids, lengths, strict=True):
            name = generator.integers(1000, 40000, length)
            prompt = [self.config.bos_token_id, *TEMPLATE, *name, PERIOD, self.config.eos_token_id]
            row[: len(prompt)] = prompt
        return ids

    def short_ids(self) -> Int[np.ndarray, "C shortest"]:
        """The same, cut to the longest prompt."""
        return tokenizer.shorten(self.token_ids())

    def images(self) -> tuple[UInt8[np.ndarray, "S B h w 3"], Int[np.ndarray, "S B"]]:
        """Noise and labels."""
        generator = np.random.default_rng(1)
        size = (self.seeds, self.batch)
        pictures = generator.integers(0, 256, (*size, self.image_size, self.image_size, 3), np.uint8)
        return pictures, generator.integers(0, self.classes, size).astype(np.int32)

    def head_mask(self) -> Bool[np.ndarray, "L H T T"]:
        """Roles at random."""
        tower, structure = self.config.vision, self.model.structure
        roles = patterns.plain_roles("random", tower.layers - structure.vision_layer + 1, tower.heads, ATTRIBUTES)
        return mask.build(roles, ATTRIBUTES, 1 + self.config.patches)

    def settings(self) -> Settings:
        """Of all variants, `[V, ...]`."""
        one = (self.head_mask(), np.float32(BETA), np.float32(REG_WEIGHT), np.float32(FUSION_WEIGHT))
        return Settings(*(jnp.stack([jnp.asarray(leaf)] * self.variants) for leaf in one))

    def rates(self) -> optimizers.Rates:
        """Of all variants, `[V]`."""
        values = (LEARNING_RATE, LEARNING_RATE, 0.0, 5e-4)
        return optimizers.Rates(*(jnp.full(self.variants, value, jnp.float32) for value in values))

    def adapter(self, params: Params, seed: int) -> tokens.Adapter:
        """Of one run, at its start."""
        return tokens.initialize(jax.random.key(seed), params, self.config, self.model.structure)

    def state(self, params: Params) -> step.TrainState:
        """Of all runs, `[S, V, ...]`, at their start."""
        adapters = [self.adapter(params, seed) for seed in range(self.seeds) for _ in range(self.variants)]
        shape = (self.seeds, self.variants)
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves).reshape(*shape, *leaves[0].shape), *adapters)
        optimizer = optimizers.make(jax.tree.map(lambda leaf: leaf[0], self.rates()), optimizers.Length(1, 1))
        return jax.vmap(jax.vmap(lambda adapter: step.create_state(adapter, optimizer)))(stacked)
