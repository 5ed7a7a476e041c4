"""Four CPU devices, so that sharding is tested anywhere; silent rank promotion is an error."""

import importlib.util
import os
from pathlib import Path

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import jax
import pytest
import torch

from dear_jax.clip import weights
from dear_jax.clip.config import CLIPConfig, TowerConfig

jax.config.update("jax_numpy_rank_promotion", "raise")


def _declare_torchvision_operators() -> None:
    """Let torchvision, and transformers' models with it, be imported beside a torch without CUDA.

    PyPI's wheel for Linux is built for CUDA: beside a CPU build of torch its operators do not load, and the import
    stops at the two that it looks up. Nothing here calls them.
    """
    torchvision = importlib.util.find_spec("torchvision")
    if torchvision is None or torchvision.origin is None or torch.version.cuda:
        return
    try:
        torch.ops.load_library(str(Path(torchvision.origin).with_name("_C.so")))
    except OSError:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor boxes, Tensor scores, float threshold) -> Tensor")


_declare_torchvision_operators()


@pytest.fixture(scope="session")
def clip_config() -> CLIPConfig:
    """A CLIP small enough for exact tests: 3 vision layers of 8 heads, 9 patches."""
    return CLIPConfig(
        vision=TowerConfig(32, 3, 8, 64, "quick_gelu", 1e-5),
        text=TowerConfig(24, 3, 4, 48, "quick_gelu", 1e-5),
        image_size=12,
        patch_size=4,
        embed_dim=16,
        vocab_size=50,
        context_length=20,
        bos_token_id=48,
        eos_token_id=49,
    )


@pytest.fixture(scope="session")
def clip_params(clip_config):
    """Random parameters of that CLIP."""
    return weights.initialize(clip_config, seed=0)
