"""The architecture of a backbone by its name, without its weights: to compile for it before there is a checkpoint.

OpenAI's CLIPs are in a table; others are read from the `config.json` of a directory, of the hub's cache or of the hub.
"""

from pathlib import Path

from dear_jax.clip.checkpoints import openai
from dear_jax.clip.checkpoints.hub import Directory, locate
from dear_jax.clip.checkpoints.weights import EMBEDDED, read_config
from dear_jax.clip.config import CLIPConfig, TowerConfig


def _openai(vision: TowerConfig, text: TowerConfig, image_size: int, patch_size: int, embed_dim: int) -> CLIPConfig:
    return CLIPConfig(
        vision,
        text,
        image_size,
        patch_size,
        embed_dim,
        vocab_size=49408,
        context_length=77,
        bos_token_id=49406,
        eos_token_id=49407,
    )


def _tower(width: int, layers: int, heads: int) -> TowerConfig:
    return TowerConfig(width, layers, heads, 4 * width, "quick_gelu", 1e-5)


_BASE, _LARGE = _tower(768, 12, 12), _tower(1024, 24, 16)
OPENAI = {  # Radford et al., arXiv 2103.00020, table 20
    "openai/clip-vit-base-patch32": _openai(_BASE, _tower(512, 12, 8), 224, 32, 512),
    "openai/clip-vit-base-patch16": _openai(_BASE, _tower(512, 12, 8), 224, 16, 512),
    "openai/clip-vit-large-patch14": _openai(_LARGE, _tower(768, 12, 12), 224, 14, 768),
    "openai/clip-vit-large-patch14-336": _openai(_LARGE, _tower(768, 12, 12), 336, 14, 768),
}


def find(name: str) -> CLIPConfig:
    """The architecture of an embedded backbone, of a directory, of OpenAI's CLIPs or of a repository on the hub.

    Raises:
        UserError: nothing of that name, or a config that is not one of a CLIP.
    """
    if name in EMBEDDED:
        return read_config(Directory(EMBEDDED[name]))
    known = name if Path(name).expanduser().exists() else openai.repository(name)
    return OPENAI[known] if known in OPENAI else read_config(locate(name))
