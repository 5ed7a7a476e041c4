"""A checkpoint that trains and compiles in no time."""

import pytest

from dear_jax.clip import byte_pairs
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.data.world.captions import vocabulary

CONTEXT = 20


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory):
    """The folder of a random CLIP of two layers that knows the words of the embedded world."""
    folder = tmp_path_factory.mktemp("tiny_clip")
    words = byte_pairs.save(folder, vocabulary(), CONTEXT)
    config = CLIPConfig(
        vision=TowerConfig(16, 2, 2, 32, "quick_gelu", 1e-5),
        text=TowerConfig(16, 2, 2, 32, "quick_gelu", 1e-5),
        image_size=16,
        patch_size=8,
        embed_dim=8,
        vocab_size=len(words),
        context_length=CONTEXT,
        bos_token_id=words[byte_pairs.BEGINNING],
        eos_token_id=words[byte_pairs.END],
    )
    weights.save(folder, config, weights.initialize(config, seed=0))
    return str(folder)
