"""What makes the model fast changes no result: shared and packed prompts, chunks of classes, rows that are read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import tokenizer, vision
from dear_jax.clip.layers import Tokens
from dear_jax.clip.split import Frozen, Split
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import DeAR, Settings, Start
from tests import reference

ATTRIBUTES = ("color", "shape")
LAYERS = pytest.mark.parametrize(
    "layer", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)]
)
CLOSE = dict(rtol=0, atol=2e-6)  # of numbers about 1: the same float32 sums in another order


def make_method(clip_config, layer: int, class_chunk: int = 0) -> DeAR:
    return DeAR(Split(clip_config, layer, layer, class_chunk=class_chunk), ATTRIBUTES, text_count=3)


def make_settings(clip_config, layer: int) -> Settings:
    roles = patterns.plain_roles("random", 4 - layer, clip_config.vision.heads, ATTRIBUTES)
    table = jnp.asarray(mask.build(roles, ATTRIBUTES, 1 + clip_config.patches))
    return Settings(table, *jnp.float32([0.9, 1.0, 0.1]))


@pytest.fixture(scope="module")
def token_ids(clip_config) -> np.ndarray:
    generator = np.random.default_rng(0)
    ids = np.zeros((7, clip_config.context_length), np.int32)
    for row, length in zip(ids, (5, 9, 6, 5, 7, 12, 6), strict=True):
        row[:length] = generator.integers(10, 48, length)
        row[:3], row[length - 1] = (48, 7, 9), 49
    return tokenizer.shorten(ids)


@pytest.mark.parametrize(
    ("layer", "chunk"), [(2, 3), pytest.param(1, 2, marks=pytest.mark.slow), pytest.param(3, 5, marks=pytest.mark.slow)]
)
def test_chunks_of_classes_give_the_same_features_and_gradients(clip_config, clip_params, token_ids, layer, chunk):
    weights = jax.random.normal(jax.random.key(1), (len(token_ids), clip_config.embed_dim))

    def run(class_chunk):
        method = make_method(clip_config, layer, class_chunk)
        prompts = method.split.encode_prompts(clip_params, token_ids)
        adapter = method.init(jax.random.key(0), clip_params, prompts.features, Start(init_std=0.5))
        settings = make_settings(clip_config, layer)

        def total(text_tokens):
            features = method.classes({**adapter, "text_tokens": text_tokens}, settings, Frozen(clip_params, prompts))
            return (features * weights).sum(), features

        (_, features), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(adapter["text_tokens"])
        return prompts, features, gradient

    prompts, features, gradient = run(chunk)
    whole, expected, expected_gradient = run(0)
    assert len(prompts.packing.ends) > len(whole.packing.ends) == 1
    assert prompts.template.shape[0] == 3
    np.testing.assert_allclose(features, expected, **CLOSE)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=1e-5 * np.abs(expected_gradient).max())


@LAYERS
def test_rows_that_are_read_are_those_of_the_whole_suffix(clip_config, clip_params, layer):
    size, width = clip_config.image_size, clip_config.vision.width
    generator = np.random.default_rng(0)
    pixels = jnp.asarray(generator.normal(size=(2, size, size, 3)), jnp.float32)
    values = jnp.asarray(generator.normal(size=(1, len(ATTRIBUTES), width)), jnp.float32)
    weights = jnp.asarray(generator.normal(size=(2, 1 + len(ATTRIBUTES), width)), jnp.float32)
    x = vision.prefix(clip_params, clip_config, pixels, layer - 1)
    table, beta = make_settings(clip_config, layer).head_mask, jnp.float32([0.9])

    def whole(values):
        rows, _ = reference.vision_suffix(clip_params, clip_config, x, layer, Tokens(values, beta), table)
        return jnp.concatenate([rows[:, :1], rows[:, -len(ATTRIBUTES) :]], axis=1)

    def read(values):
        return vision.read_suffix(clip_params, clip_config, x, layer, Tokens(values, beta), table)

    def run(function):
        def total(values):
            rows = function(values)
            return (rows * weights).sum(), rows

        (_, rows), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(values)
        return rows, gradient

    (rows, gradient), (expected_rows, expected) = run(read), run(whole)
    np.testing.assert_allclose(rows, expected_rows, rtol=0, atol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

    plain, _ = reference.vision_suffix(clip_params, clip_config, x, layer)
    np.testing.assert_allclose(vision.read_suffix(clip_params, clip_config, x, layer), plain[:, :1], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="expected a head_mask of shape"):
        vision.read_suffix(clip_params, clip_config, x, layer, None, table)


@pytest.fixture(scope="module")
def in_groups(clip_config, clip_params):
    """Features of images, so many at a time, and the gradients of a weighted sum; compiled for each number."""
    method = make_method(clip_config, 2)
    classes = jnp.zeros((1, clip_config.embed_dim))
    adapter = method.init(jax.random.key(0), clip_params, classes, Start(init_std=0.5))
    settings = make_settings(clip_config, 2)

    def total(adapter, images, weights):
        seen = method.split.look(clip_params, images)
        features = method.features(adapter, settings, clip_params, seen)
        return (features * weights).sum(), (features, seen.features)

    def run(at_a_time, images, weights):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vision, "IN_CACHE", at_a_time)
            differentiate = compiled.setdefault(at_a_time, jax.jit(jax.value_and_grad(total, has_aux=True)))
            (_, features), gradients = differentiate(adapter, images, weights)
        return features, gradients

    compiled = {}
    return run


@pytest.mark.parametrize("count", [6, 7])
def test_groups_of_images_give_what_all_of_them_give(clip_config, in_groups, count):
    size = clip_config.image_size
    images = np.random.default_rng(0).integers(0, 256, (7, size, size, 3), np.uint8)
    weights = np.random.default_rng(1).normal(size=(7, 1 + len(ATTRIBUTES), clip_config.embed_dim)).astype(np.float32)
    weights[count:] = 0  # all seven are run at once for both counts, the gradient is that of the first ones

    features, gradients = in_groups(4, images[:count], weights[:count])  # two groups of three, seven of one
    expected, expected_gradients = in_groups(8, images, weights)
    for one, other in zip(features, expected, strict=True):
        np.testing.assert_allclose(one, other[:count], **CLOSE)
    for name, gradient in gradients.items():
        scale = np.abs(expected_gradients[name]).max()
        np.testing.assert_allclose(gradient, expected_gradients[name], rtol=0, atol=1e-5 * scale, err_msg=name)
