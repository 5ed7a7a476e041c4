"""The parts of DeAR's loss that a key chooses, in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import tokenizer
from dear_jax.clip.split import Frozen, Split
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import REGULARIZED, DeAR, Settings, Start

ATTRIBUTES = ("color", "shape")


@pytest.mark.parametrize("form", ["cosine", "l1"])
@pytest.mark.parametrize("regularized", REGULARIZED)
def test_regularization_is_of_the_class_path_or_the_mean_over_all(clip_config, clip_params, form, regularized):
    method = DeAR(Split(clip_config, 2, 2), ATTRIBUTES, text_count=2)
    method = dataclasses.replace(method, regularization=form, regularized=regularized)
    ids = np.zeros((3, clip_config.context_length), np.int32)
    for number, row in enumerate(ids):
        row[:5] = [48, 7, 10 + number, 20, 49]
    prompts = method.split.encode_prompts(clip_params, tokenizer.shorten(ids))
    frozen = Frozen(jax.device_put(clip_params), prompts)
    adapter = method.init(jax.random.key(0), clip_params, prompts, Start(init_std=0.5))
    roles = patterns.plain_roles("open", 2, clip_config.vision.heads, ATTRIBUTES)
    table = jnp.asarray(mask.build(roles, ATTRIBUTES, 1 + clip_config.patches))
    settings = Settings(table, *jnp.float32([0.9, 2.0, 0.1]))
    size = clip_config.image_size
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8))
    seen, labels = method.split.look(frozen.params, images), jnp.asarray([0, 1, 2, 0])

    def distance(a, b):
        return 1 - (a * b).sum(-1).mean() if form == "cosine" else np.abs(a - b).mean()

    features = np.float64(method.features(adapter, settings, frozen.params, seen))
    plain = np.float64(seen.features)
    count = {"class": 1, "all": 1 + len(ATTRIBUTES)}[regularized]
    of_images = np.mean([distance(features[:, path], plain) for path in range(count)])
    classes = np.float64(method.classes(adapter, settings, frozen))
    expected = of_images + distance(classes, np.float64(prompts.features))
    total, parts = jax.jit(method.loss)(adapter, settings, frozen, seen, labels)
    assert float(parts["regularization"]) == pytest.approx(expected, abs=2e-6)
    assert float(total) == pytest.approx(
        float(parts["cross_entropy"]) + 2 * expected + 0.1 * float(parts["fusion"]), rel=1e-5
    )
