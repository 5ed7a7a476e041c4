"""Architectures known by name."""

import math

import jax
import pytest

from dear_jax.clip.checkpoints import architectures, weights
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.errors import UserError

PARAMETERS = {  # of the published checkpoints, as transformers counts them
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-base-patch16": 149_620_737,
    "openai/clip-vit-large-patch14": 427_616_513,
    "openai/clip-vit-large-patch14-336": 427_944_193,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_openai_architectures_have_the_published_number_of_parameters(name):
    shapes = weights.shapes(architectures.find(name))
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)) == PARAMETERS[name]


def test_shapes_are_those_of_the_loaded_parameters():
    backbone = load_backbone("embedded")
    assert architectures.find("embedded") == backbone.config
    loaded = jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), backbone.params)
    assert loaded == jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), weights.shapes(backbone.config))


def test_a_directory_gives_its_config(tmp_path, clip_config, clip_params):
    weights.save(tmp_path, clip_config, clip_params)
    assert architectures.find(str(tmp_path)) == clip_config


def test_an_unknown_backbone_is_refused(tmp_path):
    with pytest.raises(UserError):
        architectures.find(str(tmp_path / "absent" / "absent"))
