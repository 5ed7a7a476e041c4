"""The evaluation counts every image once, on any number of devices, whatever divides evenly."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from dear_jax.data.image_dataset import ImageSplit
from dear_jax.evaluation.accuracy import Evaluator
from dear_jax.methods.adapter_file import Adapters
from dear_jax.methods.dear import fusion, mask, patterns, tokens
from dear_jax.methods.dear.model import Model, Settings
from dear_jax.setup.data import ClassSet

ATTRIBUTES = ("color", "shape")
SEEDS, VARIANTS, IMAGES = 2, 3, 23
NAMES = ("one", "two", "three", "four", "five")


@pytest.fixture(scope="module")
def model(clip_config):
    structure = tokens.make_structure(clip_config, attributes=ATTRIBUTES, text_count=2, vision_layer=2, text_layer=2)
    return Model(clip_config, structure)


@pytest.fixture(scope="module")
def adapters(model, clip_params):
    def adapter(seed):
        start = tokens.Start(init_std=0.5)
        return tokens.initialize(jax.random.key(seed), clip_params, model.config, model.structure, start)

    def settings(seed):
        roles = patterns.plain_roles("random", 2, model.config.vision.heads, ATTRIBUTES, seed)
        return Settings(mask.build(roles, ATTRIBUTES, 1 + model.config.patches), *np.float32([0.9, 1, 0.1]))

    runs = jax.tree.map(lambda *leaves: np.stack(leaves), *map(adapter, range(SEEDS * VARIANTS)))
    runs = jax.tree.map(lambda leaf: leaf.reshape(SEEDS, VARIANTS, *leaf.shape[1:]), runs)
    return Adapters(
        model, ("a", "b", "c"), runs, jax.tree.map(lambda *leaves: np.stack(leaves), *map(settings, range(VARIANTS)))
    )


@pytest.fixture(scope="module")
def classes(clip_config):
    generator = np.random.default_rng(0)
    ids = np.zeros((len(NAMES), 9), np.int32)
    for row, length in zip(ids, (5, 9, 6, 5, 7), strict=True):
        row[:length] = generator.integers(10, 48, length)
        row[:2], row[length - 1] = (48, 7), 49
    size = clip_config.image_size
    images = generator.integers(0, 256, (IMAGES, size, size, 3), np.uint8)
    split = ImageSplit(generator.integers(0, len(NAMES), IMAGES), images.__getitem__)
    return ClassSet(NAMES, "{}", NAMES, ids, split)


def evaluate(model, adapters, params, classes, devices, batch_size):
    mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(1, -1), ("run", "data"))
    return Evaluator(model, params, [adapters], mesh, batch_size, fusion.MODES)(classes)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 12), (3, 10), (4, 6), pytest.param(2, 100, id="one batch")])
def test_any_number_of_devices_counts_the_same(model, adapters, clip_params, classes, devices, batch_size):
    """Neither 23 images nor 5 classes divide by 2, 3 or 4; batches are filled up to a multiple."""
    expected = evaluate(model, adapters, clip_params, classes, 1, 1)
    found = evaluate(model, adapters, clip_params, classes, devices, batch_size)
    assert found.adapted.shape == (len(fusion.MODES), SEEDS, VARIANTS)
    assert len(np.unique(expected.adapted)) > 3
    np.testing.assert_array_equal(found.adapted, expected.adapted)
    assert found.zero_shot == expected.zero_shot
    np.testing.assert_array_equal(found.under("equal").adapted, expected.adapted[[2]])
