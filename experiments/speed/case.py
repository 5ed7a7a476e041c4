"""The inputs of the speed benchmarks: CLIP ViT-B/16 with random weights, made-up images, prompts like ImageNet's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt8
from ml_collections import ConfigDict

from configs import base2new
from dear_jax.clip import tokenizer
from dear_jax.clip.checkpoints import architectures, weights
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.clip.split import Prompts
from dear_jax.methods.contract import Adapter, Length, Support
from dear_jax.parallel import sharding
from dear_jax.setup import backbones, methods, recipes, values, variants
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import NoRoleMaps
from dear_jax.training.optimizer import Optimizer
from dear_jax.training.program import Program, Runs

VIT_B16 = architectures.OPENAI["openai/clip-vit-base-patch16"]
TEMPLATE, PERIOD = (320, 1125, 539, 320), 269  # "a photo of a", "."
# How many of ImageNet's 1000 class names (open_clip's list) CLIP's tokenizer cuts into how many tokens.
NAME_LENGTHS = {1: 246, 2: 508, 3: 154, 4: 50, 5: 22, 6: 10, 7: 8, 9: 1, 12: 1}
SHOTS = 16  # images per class, of methods that keep features of them
STEPS_PER_EPOCH = 1000
DATASET = base2new.get_config().data.dataset  # by whose recipe methods run
METHODS = tuple(  # those with steps
    name for name in methods.METHODS if recipes.of(name, "base2new", DATASET, SHOTS)["train.epochs"]
)
OWN = {"dear": {"dear.mask.pattern": "random"}}  # roles at random


@dataclasses.dataclass(frozen=True)
class Case:
    """One size of the training step of one method, by its recipe of base-to-new generalization."""

    classes: int
    batch: int  # images per seed
    seeds: int = 1
    variants: int = 1
    image_size: int = 224
    dtype: str = "float32"
    class_chunk: int = 0
    method: str = "dear"

    @property
    def config(self) -> CLIPConfig:
        """The architecture."""
        return dataclasses.replace(VIT_B16, image_size=self.image_size)

    @functools.cached_property
    def settings(self) -> ConfigDict:
        """The config of a run, in which no key is open; the rate is the recipe's from the first step on."""
        compute = {"compute.dtype": self.dtype, "compute.class_chunk": self.class_chunk}
        changes = {"method": self.method, "optimizer.warmup_epochs": 0, **compute, **OWN.get(self.method, {})}
        return recipes.resolve(values.set_all(base2new.get_config(), changes))

    @functools.cached_property
    def program(self) -> Program:
        """All variants, which are alike."""
        roles = NoRoleMaps(self.config.vision.layers, self.config.vision.heads)
        plan = backbones.read(self.settings)
        (program,) = make_programs(variants.read(self.settings), plan, self.config, roles)
        settings, rates = jax.tree.map(
            lambda leaf: jnp.repeat(leaf, self.variants, axis=0), (program.settings, program.rates)
        )
        names, starts = tuple(map(str, range(self.variants))), program.starts * self.variants
        return Program(program.method, names, settings, rates, starts).sized(SHOTS * self.classes)

    @property
    def runs(self) -> Runs:
        """All seeds, on one device."""
        train = self.settings.train
        length = Length(train.epochs, STEPS_PER_EPOCH, train.steps)
        optimizer: Optimizer = values.read(Optimizer, self.settings.optimizer)
        mesh, specs = sharding.make_layout(1, [1], 1, 1, jax.devices()[:1])
        return Runs(tuple(range(self.seeds)), self.batch, length, mesh, specs, optimizer)

    def params(self) -> Params:
        """Random weights."""
        return weights.initialize(self.config, seed=0)

    def token_ids(self) -> Int[np.ndarray, "C T"]:
        """The prompts "a photo of a NAME." with names of as many tokens as ImageNet's, at the full context length.

        A method that replaces words has them among the four.
        """
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

    def supports(self) -> tuple[Support, ...]:
        """Of every seed, where the method wants features of its training images: noise."""
        if self.program.method.wanted is None:
            return ()
        like, generator = self.program.method.support_like(self.classes), np.random.default_rng(2)
        labels = np.arange(len(like.labels), dtype=np.int32) % self.classes
        drawn = [generator.standard_normal(leaf.shape, np.float32) for leaf in (like.features, like.val_features)]
        text = generator.standard_normal(like.text.shape, np.float32)
        return (Support(drawn[0], labels, drawn[1], np.zeros(len(like.val_labels), np.int32), text),) * self.seeds

    def adapter(self, params: Params, prompts: Prompts, seed: int) -> Adapter:
        """Of one run, at its start."""
        return self.program.method.init(jax.random.key(seed), params, prompts, self.program.starts[0])
