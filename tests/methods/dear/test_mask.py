"""The role mask: its table, its patterns, and what it does inside the vision tower."""

import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import layers, vision
from dear_jax.clip.layers import Tokens
from dear_jax.errors import UserError
from dear_jax.methods.dear import mask, patterns
from dear_jax.roles.role_map import GENERALIZATION, MIXED, OTHER

ATTRIBUTES = ("color", "shape", "texture")
FIRST_LAYER = 2  # of the tiny tower's 3


def test_the_table_of_the_docstring():
    table = mask.build(((GENERALIZATION, OTHER, "attribute:a", "attribute:b", MIXED),), ("a", "b"), originals=1)
    isolated = [[1, 0, 0], [0, 1, 1], [0, 1, 1]]
    expected = [
        isolated,
        isolated,
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]],
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]],
        np.ones((3, 3)),
    ]
    assert table.dtype == bool
    np.testing.assert_array_equal(table[0], np.array(expected, bool))


def test_own_token_may_see_the_others():
    table = mask.build((("attribute:a",),), ("a", "b"), originals=1, own_token_alone=False)
    np.testing.assert_array_equal(table[0, 0], np.array([[1, 1, 0], [1, 1, 1], [0, 1, 1]], bool))


@pytest.mark.parametrize("pattern", ["open", "isolated", "random"])
def test_every_pattern_keeps_the_invariants(pattern):
    roles = patterns.plain_roles(pattern, 3, 4, ATTRIBUTES, seed=5)
    table = mask.build(roles, ATTRIBUTES, originals=6)
    assert table.shape == (3, 4, 9, 9)
    assert table[..., :6, :6].all()  # original tokens always see each other
    assert table[..., np.arange(9), np.arange(9)].all()  # every token sees itself
    np.testing.assert_array_equal(table, table.swapaxes(-1, -2))  # open or blocked both ways


def test_files(tmp_path):
    table = mask.build(patterns.plain_roles("random", 2, 3, ATTRIBUTES), ATTRIBUTES, originals=4)
    path = tmp_path / "mask.npy"
    np.save(path, table)
    np.testing.assert_array_equal(mask.load(path, table.shape), table)
    with pytest.raises(UserError, match=r"holds bool \(2, 3, 7, 7\), expected bool \(2, 4, 7, 7\)"):
        mask.load(path, (2, 4, 7, 7))
    table[1, 2, 3] = False
    np.save(path, table)
    with pytest.raises(
        UserError,
        match="leaves 1 query rows without an allowed key, the first at layer index 1, head 2, row 3",
    ):
        mask.load(path, table.shape)
    path.write_text("no array")
    with pytest.raises(UserError, match="cannot be read as a NumPy array"):
        mask.load(path, table.shape)


def run_suffix(config, params, pixels, roles, scale=1.0, analyse=False):
    tokens = scale * np.random.default_rng(3).normal(size=(len(ATTRIBUTES), config.vision.width)).astype(np.float32)
    x = vision.prefix(params, config, pixels, FIRST_LAYER - 1)
    table = mask.build(roles, ATTRIBUTES, x.shape[1])
    return vision.suffix(params, config, x, FIRST_LAYER, Tokens(tokens, 0.9), jnp.asarray(table), analyse)


@pytest.fixture
def pixels(clip_config):
    size = clip_config.image_size
    return np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize("scale", [0.02, 1.0, 100.0])
def test_isolated_heads_leave_clip_as_it_was(clip_config, clip_params, pixels, scale):
    heads = clip_config.vision.heads
    roles = patterns.plain_roles("isolated", 2, heads, ATTRIBUTES)
    x, _ = run_suffix(clip_config, clip_params, pixels, roles, scale)
    plain = vision.prefix(clip_params, clip_config, pixels, clip_config.vision.layers)
    # Blocked keys weigh exactly 0; what is left is another order of the same float32 sums.
    np.testing.assert_allclose(x[:, : -len(ATTRIBUTES)], plain, rtol=0, atol=2e-6)


def test_open_heads_are_plain_attention(clip_config, clip_params, pixels):
    roles = patterns.plain_roles("open", 2, clip_config.vision.heads, ATTRIBUTES)
    x, _ = run_suffix(clip_config, clip_params, pixels, roles)
    tokens = np.random.default_rng(3).normal(size=(len(ATTRIBUTES), clip_config.vision.width)).astype(np.float32)
    prefix = vision.prefix(clip_params, clip_config, pixels, FIRST_LAYER - 1)
    without_mask, _ = vision.suffix(clip_params, clip_config, prefix, FIRST_LAYER, Tokens(tokens, 0.9))
    np.testing.assert_array_equal(x, without_mask)


def test_beta_one_replaces_and_beta_zero_keeps(clip_config, clip_params, pixels):
    """beta = 0 is plain attention over the longer sequence, written here without any mixing."""
    tokens = np.random.default_rng(3).normal(size=(len(ATTRIBUTES), clip_config.vision.width)).astype(np.float32)
    prefix = vision.prefix(clip_params, clip_config, pixels, FIRST_LAYER - 1)
    stack = layers.slice_layers(clip_params["vision_model"]["encoder"]["layers"], FIRST_LAYER, 3)
    longer = layers.insert_tokens(prefix, jnp.asarray(tokens), prefix.shape[1])
    expected, _ = layers.run_blocks(clip_config.vision, stack, longer)
    kept, _ = vision.suffix(clip_params, clip_config, prefix, FIRST_LAYER, Tokens(tokens, 0.0))
    np.testing.assert_allclose(kept, expected, rtol=0, atol=2e-6)

    replaced, _ = vision.suffix(clip_params, clip_config, prefix, FIRST_LAYER, Tokens(tokens, 1.0))
    x = longer
    for layer in range(FIRST_LAYER, 4):
        one = layers.slice_layers(clip_params["vision_model"]["encoder"]["layers"], layer, layer)
        fresh = jnp.broadcast_to(tokens[None], (2, *tokens.shape))
        x, _ = layers.run_blocks(clip_config.vision, one, x.at[:, -len(ATTRIBUTES) :].set(fresh))
    np.testing.assert_allclose(replaced, x, rtol=0, atol=2e-6)


@pytest.mark.parametrize("key", [0, 4, -3, -2, -1])  # the class token, a patch, the three attribute tokens
def test_a_blocked_key_changes_nothing_in_exactly_the_heads_that_block_it(clip_config, clip_params, pixels, key):
    """Perturb one token: in each head, only the query rows that may see it give another output."""
    heads = clip_config.vision.heads
    roles = ((GENERALIZATION, MIXED, "attribute:color", "attribute:shape", OTHER) * heads)[:heads]
    table = mask.build((roles,), ATTRIBUTES, 1 + clip_config.patches)
    x = vision.prefix(clip_params, clip_config, pixels, clip_config.vision.layers - 1)
    tokens = np.random.default_rng(3).normal(size=(len(ATTRIBUTES), clip_config.vision.width)).astype(np.float32)
    noise = np.random.default_rng(4).normal(size=clip_config.vision.width).astype(np.float32)
    outputs = []
    for change in (0 * noise, noise):
        sequence = layers.insert_tokens(x, jnp.asarray(tokens), x.shape[1]).at[:, key].add(change[None])
        inputs, learned = sequence[:, : x.shape[1]], sequence[0, x.shape[1] :]
        _, analysis = vision.suffix(
            clip_params, clip_config, inputs, clip_config.vision.layers, Tokens(learned, 0.9), jnp.asarray(table), True
        )
        outputs.append(np.asarray(analysis.head_outputs[0]))
        blocked = ~np.broadcast_to(table[0], analysis.probabilities[0].shape)
        assert (np.asarray(analysis.probabilities[0])[blocked] == 0).all()
    differs = (outputs[0] != outputs[1]).any(axis=(0, 3)).T  # [H, T]: exactly, for a blocked key weighs exactly 0
    np.testing.assert_array_equal(differs, table[0, :, :, key])
