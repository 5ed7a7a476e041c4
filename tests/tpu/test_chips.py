"""Topologies: those that there are, and what is said of others."""

import importlib.util

import pytest

from dear_jax.errors import UserError
from dear_jax.tpu import chips


def test_every_shape_has_a_published_number_of_chips():
    for chip in chips.CHIPS.values():
        assert all(1 <= len(shape.split("x")) <= 3 for shape in chip.shapes)
    assert chips.find("v5e:8x8") is chips.CHIPS["v5e"]


@pytest.mark.parametrize("topology", ["", "v5e", "v5e:3x3", "v4:2x2x1", "8x8"])
def test_an_unknown_topology_is_answered_with_the_known_ones(topology):
    with pytest.raises(UserError, match=r"config\.topology") as error:
        chips.find(topology)
    assert "v5e:8x8" in str(error.value)
    assert "v5p:4x4x4" in str(error.value)


def test_a_misspelt_topology_has_a_suggestion():
    with pytest.raises(UserError, match="Did you mean v6e:16x16"):
        chips.find("v6e-16x16")


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[tpu-compile\]'"):
        chips.devices("v5e:2x2")
