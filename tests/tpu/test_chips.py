"""Topologies: those that there are, and what is said of others."""

import importlib.util
import math
import subprocess
import sys

import pytest

from dear_jax.errors import UserError
from dear_jax.tpu import chips
from tests.repository import REPOSITORY

_CUBES = {4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}
# Google's pages of each chip: bfloat16 TFLOPS, GB of HBM and its GB/s, GB/s of the links; chips of the slices.
PUBLISHED = {
    "v2": ((45, 16, 700, 496), {4, 16, 64, 128, 256}),
    "v3": ((123, 32, 900, 656), {4, 16, 64, 128, 256, 512, 1024}),
    "v4": ((275, 32, 1200, 600), _CUBES),
    "tpu7x": ((2307, 192, 7380, 1200), _CUBES),
    "v5e": ((197, 16, 819, 400), {1, 4, 8, 16, 32, 64, 128, 256}),
    "v5p": ((459, 95, 2765, 1200), _CUBES),
    "v6e": ((918, 32, 1638, 800), {1, 4, 8, 16, 32, 64, 128, 256}),
}


@pytest.mark.parametrize("name", chips.CHIPS)
def test_a_chip_is_as_published(name):
    chip, (peaks, slices) = chips.CHIPS[name], PUBLISHED[name]
    whole = (chip.flops / 1e12, chip.memory / 2**30, chip.bandwidth / 1e9, chip.links / 1e9)
    assert tuple(chip.devices * value for value in whole) == peaks
    counts = [math.prod(map(int, shape.split("x"))) for shape in chip.shapes]
    assert counts == sorted(slices)
    # A chip's links make it a torus: of two dimensions or of three.
    assert {len(shape.split("x")) for shape in chip.shapes} == {2 if name in ("v2", "v3", "v5e", "v6e") else 3}
    assert all(chips.find(f"{name}:{shape}") is chip for shape in chip.shapes)


@pytest.mark.parametrize("topology", ["", "v5e", "v5e:3x3", "v4:2x2", "8x8"])
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


@pytest.mark.parametrize("name", chips.CHIPS)
def test_libtpu_describes_each_chip(name):
    pytest.importorskip("libtpu")
    shape = chips.CHIPS[name].shapes[-1]
    code = f"from dear_jax.tpu import chips; print(len(chips.devices('{name}:{shape}')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) == chips.CHIPS[name].devices * math.prod(map(int, shape.split("x")))
