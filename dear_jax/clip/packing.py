"""Where the tokens of many prompts stand once nothing is computed twice and next to nothing for padding.

The prompts of a class set begin alike ("a photo of a"), and a causal tower makes the same of what is alike: the
positions that all prompts share are left to one sequence of their own. What remains of each prompt, its own part
(class name, punctuation, end of text), has its own length: own parts are put one behind the other into sequences of
equal length, as many as fit each, and attention keeps them apart by their segments. `.` is a gap::

    a photo of a cat              shared: a photo of a       sequences: ice  cream cone cat      segments: 0 0 0 1
    a photo of a ice cream cone                                         sea  lion  dog  .                  2 2 3 .
    a photo of a sea lion
    a photo of a dog

Where memory asks for it the prompts are dealt into G chunks of equal size, to be run one after the other.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

SEQUENCE = 32  # tokens of a packed sequence at least: attention of longer ones is more work, of shorter ones more gaps
MULTIPLE = 8  # of which the rows of a sequence are a multiple, for the registers and tiles of devices
GAP = -1


class Packing(NamedTuple):
    """Indices of G chunks of E prompts in R rows, M sequences of W, int32. Those of gaps are out of range, or GAP."""

    sources: Int[Array, "G R"]  # flat position in the prompts [C * T] of each row
    segments: Int[Array, "G M W"]  # prompt of each row, counted within the chunk
    ends: Int[Array, "G E"]  # row of each prompt's end of text
    prompts: Int[Array, "G R"]  # and back: prompt of each row that is an end of text
    order: Int[Array, "C"]  # flat place in [G * E] of each prompt


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
    width = -(-max(own.max(), min(SEQUENCE, own.sum())) // MULTIPLE) * MULTIPLE
    starts = [_starts(own[member], width) for member in members]
    used = max((start + own[member]).max(initial=0) for member, start in zip(members, starts, strict=True))
    count, size = -(-used // width) * width, max(map(len, members))
    sources = np.full((chunks, count), classes * length)
    segments = np.full((chunks, count), GAP)
    ends = np.full((chunks, size), count)
    prompts = np.full((chunks, count), size)
    order = np.empty(classes, int)
    for g, (member, start) in enumerate(zip(members, starts, strict=True)):
        for m, (c, first) in enumerate(zip(member, start, strict=True)):
            rows = np.arange(first, first + own[c])
            sources[g, rows] = c * length + shared + np.arange(own[c])
            segments[g, rows] = m
            ends[g, m], prompts[g, rows[-1]] = rows[-1], m
            order[c] = g * size + m
    sequences = segments.reshape(chunks, -1, width)
    arrays: list[Any] = [array.astype(np.int32) for array in (sources, sequences, ends, prompts, order)]
    return Packing(*arrays)


def attention_mask(segments: Int[Array, "M W"]) -> Bool[Array, "M 1 W W"]:
    """True where a row (second but last axis) may see another: of its own segment, itself and those before it."""
    causal = jnp.tril(jnp.ones((1, segments.shape[1], segments.shape[1]), bool))
    return ((segments[:, :, None] == segments[:, None, :]) & causal)[:, None]


def _deal(lengths: Int[np.ndarray, "C"], chunks: int) -> list[Int[np.ndarray, "E"]]:
    """Chunks of equal size, up to one, with about as many rows each: dealt to and fro, from the longest on."""
    order = np.argsort(-lengths, kind="stable") if chunks > 1 else np.arange(len(lengths))
    rounds = [order[start : start + chunks] for start in range(0, len(order), chunks)]
    dealt = [hand if turn % 2 == 0 or len(hand) < chunks else hand[::-1] for turn, hand in enumerate(rounds)]
    return [np.array([hand[g] for hand in dealt if g < len(hand)], int) for g in range(chunks)]


def _starts(lengths: Int[np.ndarray, "E"], width: int) -> Int[np.ndarray, "E"]:
    """Flat row in sequences of `width` at which each part starts: from the longest on, where the least room is left."""
    starts = np.empty(len(lengths), int)
    with_room: list[list[int]] = [[] for _ in range(width + 1)]  # sequences, by the room that is left in them
    sequences = 0
    for part in np.argsort(-lengths, kind="stable"):
        room = next((room for room in range(lengths[part], width + 1) if with_room[room]), 0)
        if room:
            sequence = with_room[room].pop()
        else:
            sequence, room, sequences = sequences, width, sequences + 1
        starts[part] = sequence * width + width - room
        with_room[room - lengths[part]].append(sequence)
    return starts


@jax.custom_vjp
def take_rows(x: Float[Array, "R *D"], indices: Int[Array, "E"], inverse: Int[Array, "R"]) -> Float[Array, "E *D"]:
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
