"""Where the tokens of many prompts stand once nothing is computed twice and nothing for padding.

The prompts of a class set begin alike ("a photo of a"), and a causal tower makes the same of what is alike: the
positions that all prompts share are left to one sequence of their own. What remains of each prompt, its own part
(class name, punctuation, end of text), has its own length: the rows of all own parts lie in one matrix `[N, D]`
without gaps, and only attention looks at them as sequences `[M, W, D]`. Three prompts, `.` for a gap::

    a photo of a cat .        shared: a photo of a       packed: cat . sea lion . dog .
    a photo of a sea lion .                              as sequences: cat  .    .
    a photo of a dog .                                                 sea  lion .
                                                                       dog  .    .

Where memory asks for it the prompts are dealt into G chunks of equal size, to be run one after the other.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

ROW_MULTIPLE = 8  # rows of a chunk are filled up to a multiple, for the registers and tiles of devices


class Packing(NamedTuple):
    """Indices of G chunks of M prompts with N rows, int32. An index out of range stands for a gap, and reads as 0."""

    sources: Int[Array, "G N"]  # position in the flattened prompts [C * T] of each row
    rows: Int[Array, "G M W"]  # row of each position of each prompt's own part
    positions: Int[Array, "G N"]  # and back: flat position in [M * W] of each row
    ends: Int[Array, "G M"]  # row of each prompt's end of text
    prompts: Int[Array, "G N"]  # and back: prompt in [M] of each row that is an end of text
    order: Int[Array, "C"]  # flat place in [G * M] of each prompt


def shared_length(token_ids: Int[np.ndarray, "C T"], end_positions: Int[np.ndarray, "C"]) -> int:
    """Number of leading positions at which all prompts are alike, short of the first end of text."""
    alike = (token_ids == token_ids[:1]).all(axis=0)
    return int(min(np.argmin(np.append(alike, False)), end_positions.min()))


def pack(end_positions: Int[np.ndarray, "C"], shared: int, length: int, chunk: int = 0, shards: int = 1) -> Packing:
    """Deal prompts into chunks, and give every token of their own parts a row.

    Args:
        end_positions: of the end of text, at least `shared`.
        shared: leading positions that all prompts share.
        length: T, of the padded prompts.
        chunk: most prompts of a chunk; 0: as many as there are.
        shards: groups of devices; each has G / shards chunks, one after another.
    """
    classes = len(end_positions)
    own = end_positions - shared + 1
    chunks = shards * (-(-classes // (chunk * shards)) if chunk else 1)
    members = _deal(own, chunks)
    totals = [own[member].sum() for member in members]
    size, count, width = max(map(len, members)), -(-max(totals) // ROW_MULTIPLE) * ROW_MULTIPLE, own.max()
    sources = np.full((chunks, count), classes * length)
    rows = np.full((chunks, size, width), count)
    positions = np.full((chunks, count), size * width)
    ends = np.full((chunks, size), count)
    prompts = np.full((chunks, count), size)
    order = np.empty(classes, int)
    for g, member in enumerate(members):
        row = 0
        for m, c in enumerate(member):
            steps = np.arange(own[c])
            sources[g, row + steps] = c * length + shared + steps
            rows[g, m, : own[c]] = row + steps
            positions[g, row + steps] = m * width + steps
            row += own[c]
            ends[g, m], prompts[g, row - 1] = row - 1, m
            order[c] = g * size + m
    arrays: list[Any] = [array.astype(np.int32) for array in (sources, rows, positions, ends, prompts, order)]
    return Packing(*arrays)


def _deal(lengths: Int[np.ndarray, "C"], chunks: int) -> list[Int[np.ndarray, "m"]]:
    """Chunks of equal size, up to one, with about as many rows each: dealt to and fro, from the longest on."""
    order = np.argsort(-lengths, kind="stable") if chunks > 1 else np.arange(len(lengths))
    rounds = [order[start : start + chunks] for start in range(0, len(order), chunks)]
    dealt = [hand if turn % 2 == 0 or len(hand) < chunks else hand[::-1] for turn, hand in enumerate(rounds)]
    return [np.array([hand[g] for hand in dealt if g < len(hand)], int) for g in range(chunks)]


@jax.custom_vjp
def take_rows(x: Float[Array, "N D"], indices: Int[Array, "*R"], inverse: Int[Array, "N"]) -> Float[Array, "*R D"]:
    """`x[indices]` along the first axis, 0 where out of range.

    No row is taken twice, and `inverse` says for each row at which flat position of `indices` it was taken: so the
    gradient too only takes rows, where that of an indexed array would add them up one by one.
    """
    return jnp.take(x, indices, axis=0, mode="fill", fill_value=0)


def _take_forward(x: Array, indices: Array, inverse: Array) -> tuple[Array, tuple[Array, Array]]:
    return take_rows(x, indices, inverse), (indices, inverse)


def _take_backward(residuals: tuple[Array, Array], gradient: Array) -> tuple[Array, None, None]:
    indices, inverse = residuals
    flat = gradient.reshape(indices.size, *gradient.shape[indices.ndim :])
    return take_rows(flat, inverse, indices.reshape(-1)), None, None


take_rows.defvjp(_take_forward, _take_backward)
