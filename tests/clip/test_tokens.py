"""Learned tokens layer by layer, in both towers, against the plain reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import layers, tokenizer
from dear_jax.clip.layers import Tokens
from dear_jax.clip.split import Split
from dear_jax.methods.dear import mask, patterns
from tests import reference

ATTRIBUTES = ("color", "shape")
FIRST, COUNT = 1, 3  # J, and the layers from it on: tokens enter, pass a layer in the middle and the last one
# What the entries of the layers from J on are: betas, and whether each layer has values of its own.
KINDS = {
    "one entry": ([0.9], False),
    "equal entries": ([0.9, 0.9, 0.9], False),
    "mixed, each layer its own": ([0.9, 0.7, 0.2], True),
    "replaced": ([1.0, 1.0, 1.0], True),
    "entered twice, then going on": ([1.0, 1.0, 0.0], True),
    "entered once": ([0.0], False),
}


def make_tokens(kind, width):
    beta, own = KINDS[kind]
    values = np.random.default_rng(3).normal(size=(COUNT, len(ATTRIBUTES), width)).astype(np.float32)
    chosen = values if own else values[[0] * len(beta)]
    return Tokens(jnp.asarray(chosen), jnp.asarray(beta, jnp.float32))


def with_gradient(read, shape):
    """The compiled function of tokens: what is read, and the gradient of a random sum of it."""
    weights = jnp.asarray(np.random.default_rng(5).normal(size=shape), jnp.float32)

    def total(values, beta):
        found = read(Tokens(values, beta))
        return (found * weights).sum(), found

    compiled = jax.jit(jax.value_and_grad(total, has_aux=True))

    def run(tokens, entries=None):
        """With `entries`, a single entry is written out so many times: the gradient is the sum over them."""
        count = len(tokens.beta) if entries is None else entries
        values = jnp.broadcast_to(tokens.values, (count, *tokens.values.shape[1:]))
        (_, found), gradient = compiled(values, jnp.broadcast_to(tokens.beta, count))
        return found, gradient if count == len(tokens.beta) else gradient.sum(axis=0, keepdims=True)

    return run


@pytest.fixture(scope="module")
def in_images(clip_config, clip_params):
    """The package's rows and the reference's, of two images, under a mask."""
    split, tower = Split(clip_config, FIRST, FIRST), clip_config.vision
    size, count = clip_config.image_size, len(ATTRIBUTES)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8))
    seen = split.look(clip_params, images)
    roles = patterns.plain_roles("random", COUNT, tower.heads, ATTRIBUTES)
    table = jnp.asarray(mask.build(roles, ATTRIBUTES, 1 + clip_config.patches))

    def read(tokens):
        return split.read_images(clip_params, seen.prefix, tokens, table)

    def whole(tokens):
        rows = reference.image_rows(clip_params, clip_config, images, FIRST, tokens, table)
        return jnp.concatenate([rows[:, :1], rows[:, -count:]], axis=1)

    shape = (2, 1 + count, tower.width)
    return tower.width, with_gradient(read, shape), with_gradient(whole, shape)


@pytest.fixture(scope="module")
def in_prompts(clip_config, clip_params):
    """The package's text features and the reference's, of prompts of different lengths."""
    generator, split = np.random.default_rng(0), Split(clip_config, FIRST, FIRST)
    ids = np.zeros((4, clip_config.context_length - len(ATTRIBUTES)), np.int32)
    for row, length in zip(ids, (5, 9, 6, 12), strict=True):
        row[:length] = generator.integers(10, 48, length)
        row[:3], row[length - 1] = (48, 7, 9), 49
    prompts = split.encode_prompts(clip_params, tokenizer.shorten(ids))

    def read(tokens):
        return split.read_prompts(clip_params, prompts, tokens)

    def whole(tokens):
        return reference.text_features(clip_params, clip_config, jnp.asarray(ids), FIRST, tokens)

    shape = (len(ids), clip_config.embed_dim)
    return clip_config.text.width, with_gradient(read, shape), with_gradient(whole, shape)


@pytest.fixture(params=["in_images", "in_prompts"])
def tower(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_do_what_their_entries_say(tower, kind):
    width, read, whole = tower
    tokens = make_tokens(kind, width)
    (found, gradient), (expected, expected_gradient) = read(tokens), whole(tokens, COUNT)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    scale = np.abs(expected_gradient).max()
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=2e-5 * scale)
    for entry, beta, taken in zip(gradient, tokens.beta, range(COUNT), strict=False):
        assert (np.abs(entry).max() > 0) == (taken == 0 or beta > 0)


def test_a_single_entry_is_equal_ones_for_all_layers(tower):
    width, read, _ = tower
    (one, gradient), (each, gradients) = (read(make_tokens(kind, width)) for kind in ("one entry", "equal entries"))
    np.testing.assert_allclose(one, each, rtol=0, atol=1e-6)
    np.testing.assert_allclose(gradient[0], gradients.sum(axis=0), rtol=0, atol=1e-5 * np.abs(gradient).max())


def test_the_kinds_differ(tower):
    width, read, _ = tower
    found = [np.asarray(read(make_tokens(kind, width))[0]) for kind in KINDS if kind != "equal entries"]
    for i, one in enumerate(found):
        assert all(np.abs(one - other).max() > 1e-3 for other in found[:i])


def test_layers_do_the_same_in_a_loop(tower, monkeypatch):
    """Many do run in one, where tokens enter early."""
    width, read, whole = tower
    tokens = make_tokens("entered twice, then going on", width)
    expected, expected_gradient = whole(tokens)
    monkeypatch.setattr(layers, "UNROLLED", 0)
    jax.clear_caches()
    found, gradient = read(tokens)
    jax.clear_caches()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=0, atol=2e-5 * np.abs(expected_gradient).max())


@pytest.mark.parametrize("entries", [(2, 1), (1, 2), (4, 3)])
def test_entries_for_other_layers_than_there_are_are_refused(clip_config, clip_params, entries):
    values, beta = entries
    split = Split(clip_config, FIRST, FIRST)
    tokens = Tokens(jnp.zeros((values, 2, clip_config.vision.width)), jnp.zeros(beta))
    prefix = jnp.zeros((1, 1 + clip_config.patches, clip_config.vision.width))
    with pytest.raises(ValueError, match=f"expected 1 or {COUNT} entries of (values|beta), got {max(entries)}"):
        split.read_images(clip_params, prefix, tokens)
