"""Packed prompts: every token of a prompt's own has one row, whatever the chunks; gradients take rows as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import packing

ENDS = np.array([5, 9, 6, 5, 7, 11, 6])
SHARED, LENGTH = 3, 16


@pytest.mark.parametrize("chunk", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("sequence", [1, 16, 32])
def test_every_own_token_has_one_row(monkeypatch, chunk, sequence):
    monkeypatch.setattr(packing, "SEQUENCE", sequence)
    packed = packing.pack(ENDS, SHARED, LENGTH, chunk)
    size, width = packed.ends.shape[1], packed.segments.shape[2]
    assert size <= (chunk or len(ENDS))
    assert width >= ENDS.max() - SHARED + 1
    assert width % packing.MULTIPLE == 0
    for c, end in enumerate(ENDS):
        g, m = divmod(packed.order[c], size)
        own = end - SHARED + 1
        rows = np.flatnonzero(packed.segments[g] == m)
        assert packed.ends[g, m] == rows[-1]
        assert packed.prompts[g, rows[-1]] == m
        np.testing.assert_array_equal(rows, rows[0] + np.arange(own))
        assert rows[0] // width == rows[-1] // width  # within one sequence
        np.testing.assert_array_equal(packed.sources[g, rows], c * LENGTH + np.arange(SHARED, end + 1))
    gaps = packed.segments == packing.GAP
    assert (~gaps).sum() == (ENDS - SHARED + 1).sum()
    np.testing.assert_array_equal(packed.sources.reshape(gaps.shape) == len(ENDS) * LENGTH, gaps)
    assert (packed.prompts < size).sum() == len(ENDS)


def test_chunks_have_about_as_many_rows_each_and_few_gaps():
    ends = 5 + np.random.default_rng(0).integers(1, 12, 1000)
    packed = packing.pack(ends, 5, 24, 100)
    rows = (packed.segments != packing.GAP).sum(axis=(1, 2))
    assert rows.max() - rows.min() <= packing.MULTIPLE
    assert rows.sum() > 0.93 * packed.segments.size


def test_groups_of_devices_without_a_prompt_have_gaps():
    packed = packing.pack(ENDS[:2], SHARED, LENGTH, shards=4)
    assert (packed.segments != packing.GAP).any(axis=(1, 2)).tolist() == [True, True, False, False]


def test_rows_see_those_of_their_prompt_up_to_themselves():
    mask = packing.attention_mask(jnp.array([[0, 0, 1, packing.GAP], [2, 2, 2, 3]]))
    assert mask.shape == (2, 1, 4, 4)
    np.testing.assert_array_equal(mask[0, 0], [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(mask[1, 0], [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]])


def test_shared_length_stops_before_the_first_end_of_text():
    ids = np.array([[1, 5, 6, 2, 0], [1, 5, 6, 7, 2], [1, 5, 6, 8, 2]])
    assert packing.shared_length(ids, np.array([3, 4, 4])) == 3
    assert packing.shared_length(ids[:1], np.array([3])) == 3
    assert packing.shared_length(ids[1:2].repeat(2, 0), np.array([4, 4])) == 4


def test_the_gradient_of_taking_rows_is_that_of_indexing():
    packed = packing.pack(ENDS, SHARED, LENGTH, 4)
    ends, prompts = jnp.asarray(packed.ends[1]), jnp.asarray(packed.prompts[1])  # three prompts, the fourth is a gap
    x = jax.random.normal(jax.random.key(0), (len(prompts), 2))
    weights = jax.random.normal(jax.random.key(1), (len(ends), 2))

    def taken(x):
        return (weights * packing.take_rows(x, ends, prompts) ** 2).sum()

    def indexed(x):
        return (weights * jnp.concatenate([x, jnp.zeros((1, 2))])[ends] ** 2).sum()

    assert (np.asarray(ends) == len(prompts)).sum() == 1
    np.testing.assert_allclose(jax.grad(taken)(x), jax.grad(indexed)(x), rtol=1e-6)
