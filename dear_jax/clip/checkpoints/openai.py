"""OpenAI's own names and archives of CLIP: `ViT-B/16`, and the `ViT-B-16.pt` that their code downloads.

Such an archive is a TorchScript module with open_clip's names of tensors and no config: its architecture follows from
the shapes and from what OpenAI's code fixes (QuickGELU, 64 channels per head, LayerNorm epsilon 1e-5).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from dear_jax.clip.checkpoints.names import Shape
from dear_jax.clip.checkpoints.open_clip import LAYER_NORM_EPSILON
from dear_jax.clip.config import LEGACY_EOS, CLIPConfig, TowerConfig
from dear_jax.errors import UserError

HEAD_WIDTH = 64
REPOSITORIES = {
    ("b", "32", ""): "openai/clip-vit-base-patch32",
    ("b", "16", ""): "openai/clip-vit-base-patch16",
    ("l", "14", ""): "openai/clip-vit-large-patch14",
    ("l", "14", "336"): "openai/clip-vit-large-patch14-336",
}
TOKENIZER = "openai/clip-vit-base-patch32"  # whose tokenizer all of them share
HUB = "hf-hub:"  # what open_clip puts before a repository
# ViT-B/16, ViT-L/14@336px; of the archives, ViT-L-14-336px.pt; of open_clip, ViT-L-14-336-quickgelu.
_NAME = re.compile(r"(?:openai/)?vit-([bl])[-/](\d\d)(?:[-@](\d+)(?:px)?)?(?:-(?:quickgelu|openai))*(?:\.pt)?")
ARCHIVES = ("ViT-B-32.pt", "ViT-B-16.pt", "ViT-L-14.pt", "ViT-L-14-336px.pt")


def downloaded(name: str) -> Path | None:
    """The archive of a repository's weights, where OpenAI's code, or CoOp's, has left it on this machine."""
    paths = (Path("~/.cache/clip", archive).expanduser() for archive in ARCHIVES if repository(archive) == name)
    return next((path for path in paths if path.is_file()), None)


def repository(name: str) -> str:
    """The hub's repository of a CLIP by OpenAI's or open_clip's name of it; other names as they are."""
    name = name.removeprefix(HUB)
    match = _NAME.fullmatch(name.lower())
    return REPOSITORIES.get((match[1], match[2], match[3] or ""), name) if match else name


def infer_config(shapes: Mapping[str, Shape], source: str) -> CLIPConfig:
    """The architecture of an archive, as OpenAI's `build_model` infers it.

    Raises:
        UserError: not one of OpenAI's ViTs.
    """
    try:
        if "visual.proj" not in shapes:
            raise KeyError("visual.proj")
        vision_width, _, patch_size, _ = shapes["visual.conv1.weight"]
        positions, _ = shapes["visual.positional_embedding"]
        context_length, text_width = shapes["positional_embedding"]
        vocab_size, _ = shapes["token_embedding.weight"]
        _, embed_dim = shapes["text_projection"]
        config = CLIPConfig(
            vision=_tower(shapes, "visual.transformer.resblocks.", vision_width),
            text=_tower(shapes, "transformer.resblocks.", text_width),
            image_size=patch_size * math.isqrt(positions - 1),
            patch_size=patch_size,
            embed_dim=embed_dim,
            vocab_size=vocab_size,
            context_length=context_length,
            bos_token_id=vocab_size - 2,
            eos_token_id=LEGACY_EOS,
        )
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{source} is a TorchScript archive, but not of one of OpenAI's ViTs, which have visual.conv1.weight, "
            f"visual.proj, text_projection, ... ({error}; found {', '.join(list(shapes)[:4])}). ResNets are not "
            "supported; give ViT-B-32.pt, ViT-B-16.pt, ViT-L-14.pt or ViT-L-14-336px.pt."
        ) from error
    return config


def _tower(shapes: Mapping[str, Shape], prefix: str, width: int) -> TowerConfig:
    layers = {name.removeprefix(prefix).split(".")[0] for name in shapes if name.startswith(prefix)}
    mlp_width, _ = shapes[f"{prefix}0.mlp.c_fc.weight"]
    if not width or width % HEAD_WIDTH:
        raise ValueError(f"a width of {width} is no multiple of {HEAD_WIDTH}")
    return TowerConfig(width, len(layers), width // HEAD_WIDTH, mlp_width, "quick_gelu", LAYER_NORM_EPSILON)
