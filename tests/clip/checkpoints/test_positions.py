"""Resized position embeddings: a float64 reference written from the definition, torch, and what stays exact."""

import jax
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from dear_jax.clip.checkpoints import positions, weights
from dear_jax.errors import UserError

SIZES = [(3, 5), (5, 3), (7, 14), (14, 16), (24, 7), (4, 4), (1, 3), (3, 1)]


def keys(x: float) -> float:
    """Keys' cubic convolution kernel with a = -1/2 (IEEE Trans. ASSP 29, 1981, equation 15)."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def reference(grid: np.ndarray, side: int) -> np.ndarray:
    """Sample by sample in float64: a weighted mean of the old grid around each new centre."""
    old = len(grid)
    stretch = max(old / side, 1.0)
    result = np.zeros((side, side, grid.shape[2]))
    for row in range(side):
        for column in range(side):
            y, x = ((index + 0.5) * old / side - 0.5 for index in (row, column))
            table = [[keys((i - y) / stretch) * keys((j - x) / stretch) for j in range(old)] for i in range(old)]
            table = np.array(table)
            result[row, column] = np.tensordot(table / table.sum(), grid.astype(np.float64), 2)
    return result


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_against_the_definition_and_torch(old, new):
    grid = np.random.default_rng(0).normal(size=(old, old, 6)).astype(np.float32)
    ours = positions.resize_grid(grid, new)
    assert (ours.shape, ours.dtype) == ((new, new, 6), np.float32)
    np.testing.assert_allclose(ours, reference(grid, new), rtol=0, atol=5e-7)  # float32 rounding of values up to 4
    pixels = torch.from_numpy(grid).double().permute(2, 0, 1)[None]
    theirs = interpolate(pixels, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), rtol=0, atol=5e-7)


def test_only_the_grid_changes(clip_config, clip_params):
    before = jax.tree.map(np.copy, clip_params)
    config, params = positions.resize(clip_config, clip_params, 20)
    assert (config.image_size, config.patches) == (20, 25)
    table = params["vision_model"]["embeddings"]["position_embedding"]["embedding"]
    old = clip_params["vision_model"]["embeddings"]["position_embedding"]["embedding"]
    assert (table.shape, table.dtype) == ((26, 32), np.float32)
    np.testing.assert_array_equal(table[0], old[0])
    np.testing.assert_allclose(table[1:].reshape(5, 5, 32), reference(old[1:].reshape(3, 3, 32), 5), atol=1e-6)
    params["vision_model"]["embeddings"]["position_embedding"]["embedding"] = old
    jax.tree.map(np.testing.assert_array_equal, params, before)
    jax.tree.map(np.testing.assert_array_equal, clip_params, before)


def test_a_resized_backbone_says_so():
    plain = weights.load_backbone("embedded")
    assert weights.load_backbone("embedded", 48).fingerprint == plain.fingerprint
    resized = weights.load_backbone("embedded", 64)
    assert resized.fingerprint == f"{plain.fingerprint}@64"
    assert resized.config.patches == 64


@pytest.mark.parametrize("size", [13, 0, -4, 4 * 65])
def test_other_sizes_are_refused(size, clip_config, clip_params):
    with pytest.raises(UserError, match=rf"config.image_size is {size}, expected a multiple of .* patch size, 4"):
        positions.resize(clip_config, clip_params, size)
