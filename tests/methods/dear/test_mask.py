"""The role mask: its table, its patterns, and what it does inside the vision tower."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import layers, vision
from dear_jax.clip.layers import Tokens
from dear_jax.errors import UserError
from dear_jax.methods.dear import mask, patterns
from dear_jax.roles.role_map import GENERALIZATION, MIXED, OTHER
from tests import reference

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
    with path.open("wb") as file:  # a header alone, of a terabyte
        np.lib.format.write_array_header_1_0(file, {"descr": "|b1", "fortran_order": False, "shape": (10**12,)})
    with pytest.raises(UserError, match="cannot be read as a NumPy array"):
        mask.load(path, table.shape)
    path.write_text("no array")
    with pytest.raises(UserError, match="cannot be read as a NumPy array"):
        mask.load(path, table.shape)


def make_tokens(config, scale=1.0, beta=0.9):
    values = scale * np.random.default_rng(3).normal(size=(1, len(ATTRIBUTES), config.vision.width))
    return Tokens(jnp.asarray(values, jnp.float32), jnp.float32([beta]))


def run_suffix(config, params, pixels, tokens, roles=None):
    """All rows by the reference, and those that are read; both from layer FIRST_LAYER on."""
    table = None if roles is None else jnp.asarray(mask.build(roles, ATTRIBUTES, 1 + config.patches))
    return compute(config, params, pixels, tokens, table)


@functools.partial(jax.jit, static_argnums=0)
def compute(config, params, pixels, tokens, table):
    x = vision.prefix(params, config, pixels, FIRST_LAYER - 1)
    rows, _ = reference.vision_suffix(params, config, x, FIRST_LAYER, tokens, table)
    return rows, vision.read_suffix(params, config, x, FIRST_LAYER, tokens, table)


def rows_that_are_read(rows):
    return jnp.concatenate([rows[:, :1], rows[:, -len(ATTRIBUTES) :]], axis=1)


@pytest.fixture
def pixels(clip_config):
    size = clip_config.image_size
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, size, size, 3)), jnp.float32)


@pytest.mark.parametrize("scale", [0.02, 1.0, 100.0])
def test_isolated_heads_leave_clip_as_it_was(clip_config, clip_params, pixels, scale):
    heads = clip_config.vision.heads
    roles = patterns.plain_roles("isolated", 2, heads, ATTRIBUTES)
    rows, read = run_suffix(clip_config, clip_params, pixels, make_tokens(clip_config, scale), roles)
    plain = vision.prefix(clip_params, clip_config, pixels, clip_config.vision.layers)
    # Blocked keys weigh exactly 0; what is left is another order of the same float32 sums.
    np.testing.assert_allclose(rows[:, : -len(ATTRIBUTES)], plain, rtol=0, atol=2e-6)
    np.testing.assert_allclose(read[:, 0], plain[:, 0], rtol=0, atol=2e-6)


def test_open_heads_are_plain_attention(clip_config, clip_params, pixels):
    roles = patterns.plain_roles("open", 2, clip_config.vision.heads, ATTRIBUTES)
    with_mask = run_suffix(clip_config, clip_params, pixels, make_tokens(clip_config), roles)
    without_mask = run_suffix(clip_config, clip_params, pixels, make_tokens(clip_config))
    for rows, expected in zip(with_mask, without_mask, strict=True):
        np.testing.assert_array_equal(rows, expected)


def test_beta_one_replaces_and_beta_zero_keeps(clip_config, clip_params, pixels):
    """beta = 0 is plain attention over the longer sequence, written here without any mixing."""
    tokens = make_tokens(clip_config).values[0]
    prefix = vision.prefix(clip_params, clip_config, pixels, FIRST_LAYER - 1)
    stack = clip_params["vision_model"]["encoder"]["layers"]
    longer = layers.insert_tokens(prefix, tokens, prefix.shape[1])
    expected = layers.run_blocks(clip_config.vision, stack, longer, first=FIRST_LAYER)
    kept, read = run_suffix(clip_config, clip_params, pixels, make_tokens(clip_config, beta=0.0))
    np.testing.assert_allclose(kept, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(read, rows_that_are_read(expected), rtol=0, atol=2e-6)

    replaced, read = run_suffix(clip_config, clip_params, pixels, make_tokens(clip_config, beta=1.0))
    x = longer
    for layer in range(FIRST_LAYER, 4):
        fresh = jnp.broadcast_to(tokens[None], (2, *tokens.shape))
        x = x.at[:, -len(ATTRIBUTES) :].set(fresh)
        x = layers.run_blocks(clip_config.vision, stack, x, first=layer, last=layer)
    np.testing.assert_allclose(replaced, x, rtol=0, atol=2e-6)
    np.testing.assert_allclose(read, rows_that_are_read(x), rtol=0, atol=2e-6)


@pytest.mark.parametrize("key", [0, 4, -3, -2, -1])  # the class token, a patch, the three attribute tokens
def test_a_blocked_key_changes_nothing_in_exactly_the_heads_that_block_it(clip_config, clip_params, pixels, key):
    """Perturb one token: in each head, only the query rows that may see it give another output."""
    heads = clip_config.vision.heads
    roles = ((GENERALIZATION, MIXED, "attribute:color", "attribute:shape", OTHER) * heads)[:heads]
    table = mask.build((roles,), ATTRIBUTES, 1 + clip_config.patches)
    x = vision.prefix(clip_params, clip_config, pixels, clip_config.vision.layers - 1)
    tokens = make_tokens(clip_config).values[0]
    noise = np.random.default_rng(4).normal(size=clip_config.vision.width).astype(np.float32)
    outputs = []
    for change in (0 * noise, noise):
        sequence = layers.insert_tokens(x, tokens, x.shape[1]).at[:, key].add(change[None])
        inputs, learned = sequence[:, : x.shape[1]], Tokens(sequence[:1, x.shape[1] :], jnp.float32([0.9]))
        last = clip_config.vision.layers
        _, (analysis,) = reference.vision_suffix(clip_params, clip_config, inputs, last, learned, table)
        outputs.append(np.asarray(analysis.head_outputs))
        blocked = ~np.broadcast_to(table[0], analysis.probabilities.shape)
        assert (np.asarray(analysis.probabilities)[blocked] == 0).all()
    differs = (outputs[0] != outputs[1]).any(axis=(0, 3)).T  # [H, T]: exactly, for a blocked key weighs exactly 0
    np.testing.assert_array_equal(differs, table[0, :, :, key])
