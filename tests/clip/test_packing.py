"""Packed prompts: every token of a prompt's own has one row, whatever the chunks; gradients take rows as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import packing

ENDS = np.array([5, 9, 6, 5, 7, 11, 6])
SHARED, LENGTH = 3, 16


@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 7, 100])
def test_every_own_token_has_one_row(chunk):
    packed = packing.pack(ENDS, SHARED, LENGTH, chunk)
    _, size, width = packed.rows.shape
    assert size <= (chunk or len(ENDS))
    assert width == ENDS.max() - SHARED + 1
    count = packed.sources.shape[1]
    for c, end in enumerate(ENDS):
        g, m = divmod(packed.order[c], size)
        rows = packed.rows[g, m]
        own = end - SHARED + 1
        assert (rows[own:] == count).all()
        np.testing.assert_array_equal(packed.sources[g, rows[:own]], c * LENGTH + np.arange(SHARED, end + 1))
        np.testing.assert_array_equal(packed.positions[g, rows[:own]], m * width + np.arange(own))
        assert packed.ends[g, m] == rows[own - 1]
        assert packed.prompts[g, rows[own - 1]] == m
    assert (packed.sources < len(ENDS) * LENGTH).sum() == (ENDS - SHARED + 1).sum()
    assert (packed.prompts < size).sum() == len(ENDS)


def test_chunks_have_about_as_many_rows_each():
    ends = 5 + np.random.default_rng(0).integers(1, 12, 1000)
    packed = packing.pack(ends, 5, 24, 100)
    rows = (packed.sources < 1000 * 24).sum(axis=1)
    assert rows.max() - rows.min() <= packing.ROW_MULTIPLE


def test_shared_length_stops_before_the_first_end_of_text():
    ids = np.array([[1, 5, 6, 2, 0], [1, 5, 6, 7, 2], [1, 5, 6, 8, 2]])
    assert packing.shared_length(ids, np.array([3, 4, 4])) == 3
    assert packing.shared_length(ids[:1], np.array([3])) == 3
    assert packing.shared_length(ids[1:2].repeat(2, 0), np.array([4, 4])) == 4


def test_the_gradient_of_taking_rows_is_that_of_indexing():
    packed = jax.tree.map(lambda leaf: leaf[0], packing.pack(ENDS, SHARED, LENGTH, 0)._replace(order=np.zeros((1, 1))))
    x = jax.random.normal(jax.random.key(0), (len(packed.positions), 2))
    weights = jax.random.normal(jax.random.key(1), (*packed.rows.shape, 2))

    def taken(x):
        return (weights * packing.take_rows(x, packed.rows, packed.positions) ** 2).sum()

    def indexed(x):
        return (weights * jnp.concatenate([x, jnp.zeros((1, 2))])[packed.rows] ** 2).sum()

    np.testing.assert_allclose(jax.grad(taken)(x), jax.grad(indexed)(x), rtol=1e-6)
