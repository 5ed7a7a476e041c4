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
from dear_jax.clip.split import Split
from dear_jax.methods.contract import Adapter
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import DeAR, Settings, Start
from dear_jax.roles.options import deeper_third
from dear_jax.training.optimizer import Rates
from dear_jax.training.program import Program

VIT_B16 = architectures.OPENAI["openai/clip-vit-base-patch16"]
ATTRIBUTES = ("color", "shape", "texture", "object", "position")
TEMPLATE, PERIOD = (320, 1125, 539, 320), 269  # "a photo of a", "."
# How many of ImageNet's 1000 class names (open_clip's list) CLIP's tokenizer cuts into how many tokens.
NAME_LENGTHS = {1: 246, 2: 508, 3: 154, 4: 50, 5: 22, 6: 10, 7: 8, 9: 1, 12: 1}
BETA, REG_WEIGHT, FUSION_WEIGHT, LEARNING_RATE, WEIGHT_DECAY = 0.9, 1.0, 0.1, 1e-3, 5e-4


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
    def method(self) -> DeAR:
        """With the default structure."""
        vision, text = (deeper_third(tower.layers) for tower in (self.config.vision, self.config.text))
        split = Split(self.config, vision, text, jnp.dtype(self.dtype), self.class_chunk)
        return DeAR(split, ATTRIBUTES, text_count=5)

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
        layers, heads, *_ = self.method.settings_like().head_mask.shape
        roles = patterns.plain_roles("random", layers, heads, ATTRIBUTES)
        return mask.build(roles, ATTRIBUTES, 1 + self.config.patches)

    def program(self) -> Program:
        """All variants, which are alike."""
        settings = Settings(self.head_mask(), *map(np.float32, (BETA, REG_WEIGHT, FUSION_WEIGHT)))
        rates = Rates(*map(np.float32, (LEARNING_RATE, LEARNING_RATE, 0.0, WEIGHT_DECAY)))
        every = jax.tree.map(lambda leaf: jnp.stack([jnp.asarray(leaf)] * self.variants), (settings, rates))
        return Program(self.method, tuple(map(str, range(self.variants))), *every, (Start(),) * self.variants)

    def adapter(self, params: Params, seed: int) -> Adapter:
        """Of one run, at its start; the classes do not count there."""
        classes = jnp.zeros((self.classes, self.config.embed_dim))
        return self.method.init(jax.random.key(seed), params, classes, Start())
