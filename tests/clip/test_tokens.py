"""Learned tokens layer by layer, in both towers, against the plain reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from dear_jax.clip import layers, tokenizer
from dear_jax.clip.layers import Tokens
from dear_jax.clip.split import OwnTokens, Split
from dear_jax.methods.dear import mask, patterns
from dear_jax.parallel import sharding
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


@pytest.fixture(scope="module")
def alike(clip_config):
    """Ids `[5, T]` of prompts of different lengths that begin with the same three words."""
    generator, ids = np.random.default_rng(1), np.zeros((5, clip_config.context_length), np.int32)
    for row, length in zip(ids, (6, 11, 8, 14, 9), strict=True):
        row[:length] = generator.integers(10, 48, length)
        row[:4], row[length - 1] = (48, 7, 9, 8), 49
    return ids


def in_their_places(alike):
    """Two for each prompt, some of them words that all share, or neighbours of the end of text."""
    ends = alike.argmax(axis=1)
    return np.stack([np.array([1, 2, 3, 5, 2]), ends - np.array([1, 2, 1, 1, 3])], axis=1)


def spread_over_devices(split, params, prompts, read):
    """`read` of prompts that lie on two groups of devices, as training places them."""
    mesh = Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("run", "data"))
    placed = sharding.place_prompts(prompts, mesh)
    params = sharding.place(params, mesh, sharding.REPLICATED)
    return jax.jit(lambda *learned: read(split, params, placed, *learned))


SPREAD = {"all at once": (0, 1), "in chunks": (2, 1), "on devices": (0, 2), "in chunks on devices": (1, 2)}


def check_read(split, clip_params, prompts, read, whole, learned):
    """Features and gradient of what is read are the reference's."""
    shape = (len(prompts.ids), split.config.embed_dim)
    weights = jnp.asarray(np.random.default_rng(5).normal(size=shape), jnp.float32)
    if split.class_shards > 1:
        ours = spread_over_devices(split, clip_params, prompts, read)
    else:
        ours = jax.jit(lambda *learned: read(split, clip_params, prompts, *learned))

    def both(function):
        def total(learned):
            found = function(*learned)
            return (found * weights).sum(), found

        (_, found), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(learned)
        return found, gradient

    (found, gradient), (expected, expected_gradient) = both(ours), both(whole)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    for ours_of, theirs in zip(gradient, expected_gradient, strict=True):
        np.testing.assert_allclose(ours_of, theirs, rtol=0, atol=2e-5 * np.abs(theirs).max())
        assert np.abs(theirs).max() > 0


@pytest.mark.parametrize(("first", "chunks"), [*zip((1, 3, 2, 1), SPREAD, strict=True)])
def test_tokens_replace_the_words_that_prompts_share(clip_config, clip_params, alike, first, chunks):
    """They enter once: what layers make of them goes on."""
    split = Split(clip_config, first, first).spread(*reversed(SPREAD[chunks]))
    prompts = split.encode_prompts(clip_params, tokenizer.shorten(alike))
    beta = jnp.zeros(clip_config.text.layers - first + 1).at[0].set(1)
    values = jnp.asarray(np.random.default_rng(3).normal(size=(2, clip_config.text.width)), jnp.float32)

    def read(split, params, prompts, values):
        return split.read_prompts(params, prompts, Tokens(values[None], beta), replace=True)

    def whole(values):
        tokens = Tokens(values[None], beta)
        return reference.text_features(
            clip_params, clip_config, jnp.asarray(alike), first, tokens, replace=True
        )

    check_read(split, clip_params, prompts, read, whole, (values,))


@pytest.mark.parametrize("kind", ["mixed, each layer its own", "one entry"])
def test_tokens_that_replace_words_do_what_their_entries_say(clip_config, clip_params, alike, kind):
    split, tokens = Split(clip_config, FIRST, FIRST), make_tokens(kind, clip_config.text.width)
    prompts = split.encode_prompts(clip_params, tokenizer.shorten(alike))

    def read(split, params, prompts, values):
        return split.read_prompts(params, prompts, Tokens(values, tokens.beta), replace=True)

    def whole(values):
        entries = jnp.broadcast_to(values, (COUNT, *values.shape[1:])), jnp.broadcast_to(tokens.beta, COUNT)
        ids = jnp.asarray(alike)
        return reference.text_features(clip_params, clip_config, ids, FIRST, Tokens(*entries), replace=True)

    check_read(split, clip_params, prompts, read, whole, (tokens.values,))


def test_more_tokens_than_shared_words_are_refused(clip_config, clip_params, alike):
    split = Split(clip_config, 1, 1)
    prompts = split.encode_prompts(clip_params, alike)
    tokens = Tokens(jnp.zeros((1, 4, clip_config.text.width)), jnp.ones(1))
    with pytest.raises(ValueError, match="4 tokens are to replace words, but 4 positions are shared"):
        split.read_prompts(clip_params, prompts, tokens, replace=True)


@pytest.mark.parametrize(("layers", "chunks"), [*zip(((1,), (1, 3), (2,), (1, 3)), SPREAD, strict=True)])
def test_tokens_of_each_prompts_own_enter_before_their_layers(clip_config, clip_params, alike, layers, chunks):
    split = Split(clip_config, 1, 1).spread(*reversed(SPREAD[chunks]))
    places = in_their_places(alike)
    prompts = split.encode_prompts(clip_params, tokenizer.shorten(alike), places)
    shape = (*places.shape, clip_config.text.width)
    learned = tuple(
        jnp.asarray(np.random.default_rng(layer).normal(size=shape), jnp.float32) for layer in layers
    )

    def read(split, params, prompts, *learned):
        own = [OwnTokens(values, layer) for values, layer in zip(learned, layers, strict=True)]
        return split.read_prompts(params, prompts, own=own)

    def whole(*learned):
        own = dict(zip(layers, learned, strict=True))
        return reference.text_features(clip_params, clip_config, jnp.asarray(alike), 1, own=own, places=places)

    check_read(split, clip_params, prompts, read, whole, learned)


def test_places_of_their_own_change_nothing_of_plain_clip(clip_config, clip_params, alike):
    split = Split(clip_config, 2, 2)
    ids = tokenizer.shorten(alike)
    plain = split.encode_prompts(clip_params, ids)
    prompts = split.encode_prompts(clip_params, ids, in_their_places(alike))
    np.testing.assert_allclose(prompts.features, plain.features, atol=1e-6)
    np.testing.assert_allclose(split.read_prompts(clip_params, prompts), plain.features, atol=1e-6)


def test_shared_and_own_tokens_stand_beside_each_other(clip_config, clip_params, alike):
    """The first two words are replaced for all prompts, what stands before the end for each its own."""
    split, places = Split(clip_config, 2, 2), alike.argmax(axis=1)[:, None] - 1
    prompts = split.encode_prompts(clip_params, tokenizer.shorten(alike), places)
    generator, width = np.random.default_rng(2), clip_config.text.width
    shared = jnp.asarray(generator.normal(size=(2, width)), jnp.float32)
    learned = (shared, jnp.asarray(generator.normal(size=(len(alike), 1, width)), jnp.float32))
    beta = jnp.asarray([1.0, 0.0])

    def read(split, params, prompts, shared, own):
        tokens = Tokens(shared[None], beta)
        return split.read_prompts(params, prompts, tokens, replace=True, own=[OwnTokens(own, 3)])

    def whole(shared, own):
        options = {"replace": True, "own": {3: own}, "places": places}
        return reference.text_features(
            clip_params, clip_config, jnp.asarray(alike), 2, Tokens(shared[None], beta), **options
        )

    check_read(split, clip_params, prompts, read, whole, learned)
