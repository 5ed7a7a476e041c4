"""The class chunk: the largest that fits, by the compiler's analysis, and none where memory is plenty."""

import dataclasses

import pytest

from dear_jax import class_chunk
from dear_jax.adapt import tokens
from dear_jax.adapt.model import Model
from dear_jax.errors import UserError


@pytest.mark.parametrize(
    ("available", "expected"), [(2000, 0), (1100, 0), (1099, 500), (600, 500), (599, 250), (102, 2)]
)
def test_the_largest_chunk_that_fits(available, expected):
    assert class_chunk.choose(1000, lambda chunk: 100 + (chunk or 1000), available) == expected


def test_odd_numbers_come_down_to_one_class():
    asked = []

    def needed(chunk: int) -> int:
        asked.append(chunk)
        return chunk or 7

    assert class_chunk.choose(7, needed, 1) == 1
    assert asked == [0, 4, 2, 1]


def test_what_never_fits_is_refused():
    with pytest.raises(UserError, match="one at a time"):
        class_chunk.choose(8, lambda chunk: 2**31, 2**30)


def test_analysis_is_asked_only_where_memory_may_not_do(clip_config, monkeypatch):
    structure = tokens.make_structure(
        clip_config, attributes=("color",), text_count=1, vision_layer=None, text_layer=None
    )
    model = Model(clip_config, structure)
    asked = []

    def step_bytes(model: Model) -> int:
        asked.append(model.class_chunk)
        return 50 * (model.class_chunk or 100)

    assert class_chunk.fit(model, 8, 100, 3, step_bytes) is model
    assert not asked
    monkeypatch.setattr(class_chunk, "device_bytes", lambda _: 4000)
    assert class_chunk.fit(model, 8, 100, 3, step_bytes).class_chunk == 50
    assert asked == [0, 50]
    given = dataclasses.replace(model, class_chunk=30)
    assert class_chunk.fit(given, 8, 100, 3, step_bytes) is given
