"""The class chunk: the largest that fits, by the compiler's analysis."""

import math

import pytest

from dear_jax.errors import UserError
from dear_jax.training import class_chunk


def fit(needed, classes, available):
    """The chunk, and those that were compiled in turn; each stands for its own program."""
    asked = []

    def attempt(chunk):
        asked.append(chunk)
        return needed(chunk), f"step of {chunk}"

    chunk, compiled = class_chunk.fit(attempt, classes, available)
    assert compiled == f"step of {chunk}"
    return chunk, asked


@pytest.mark.parametrize(
    ("available", "expected"), [(2000, 0), (1100, 0), (1099, 500), (600, 500), (599, 250), (226, 125), (102, 2)]
)
def test_the_largest_chunk_that_fits(available, expected):
    assert fit(lambda chunk: 100 + (chunk or 1000), 1000, available)[0] == expected


def test_what_fits_is_compiled_once():
    assert fit(lambda chunk: 10, 1000, 10) == (0, [0])


def test_odd_numbers_come_down_to_one_class():
    assert fit(lambda chunk: chunk or 7, 7, 1) == (1, [0, 4, 2, 1])


def test_what_no_chunk_helps_is_refused_at_once():
    with pytest.raises(UserError, match=r"needs 2\.0 GiB, even with 4 class prompts at a time, and may take 1\.0 GiB"):
        fit(lambda chunk: 2**31 + chunk, 8, 2**30)
    with pytest.raises(UserError, match=r"with 1 class prompts at a time"):
        fit(lambda chunk: (chunk or 8) * 2**31, 8, 2**30)


def test_a_program_that_the_compiler_refuses_may_fit_in_chunks():
    assert fit(lambda chunk: 5 if chunk else math.inf, 8, 10) == (4, [0, 4])
    with pytest.raises(UserError, match="needs more than there is"):
        fit(lambda chunk: math.inf, 8, 10)


def test_what_compilers_say_of_memory():
    refused = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (23.50G) exceeds "
        "available HBM (15.75G)."
    )
    assert class_chunk.exhausted_bytes(refused) == 23.5 * 2**30
    assert class_chunk.exhausted_bytes("RESOURCE_EXHAUSTED: hbm. Used 512.0M of 1.0M hbm.") == 512 * 2**20
    assert class_chunk.exhausted_bytes("RESOURCE_EXHAUSTED: Out of memory allocating") == math.inf
    assert class_chunk.exhausted_bytes("INTERNAL: a bug") is None
