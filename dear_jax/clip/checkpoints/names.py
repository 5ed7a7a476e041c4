"""Names and shapes of CLIP's tensors: the checkpoint's names, our tree of parameters, and other layouts' names.

The names of `transformers.CLIPModel` are the ones that count. `shapes` lists them for an architecture; `leaf` says
where each goes in our tree; an `Entry` says where a file of another layout holds it. Loading and saving are these
tables and nothing else.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.errors import UserError

Shape = tuple[int, ...]

# What older versions of transformers, open_clip and OpenAI's own files store beside the weights.
BUFFERS = ("position_ids", "attn_mask", "input_resolution", "context_length", "vocab_size")
SHOWN = 4  # problems of a kind in one message


class Entry(NamedTuple):
    """Where a file holds a tensor."""

    name: str  # in the file
    third: int | None = None  # 0, 1, 2: the query, key or value rows of a fused projection
    transposed: bool = False  # inputs before outputs

    def stored_shape(self, shape: Shape) -> Shape:
        """Shape in the file of a tensor of `shape`."""
        stored = shape[::-1] if self.transposed else shape
        return stored if self.third is None else (3 * stored[0], *stored[1:])

    def take(self, stored: np.ndarray) -> np.ndarray:
        """The tensor itself, from what the file holds."""
        tensor = stored if self.third is None else np.split(stored, 3)[self.third]
        return tensor.T if self.transposed else tensor


def shapes(config: CLIPConfig) -> dict[str, Shape]:
    """Every tensor of a checkpoint by its name in `transformers.CLIPModel`, with its shape there."""
    vision, text = config.vision, config.text
    return {
        "logit_scale": (),
        "visual_projection.weight": (config.embed_dim, vision.width),
        "text_projection.weight": (config.embed_dim, text.width),
        "vision_model.embeddings.class_embedding": (vision.width,),
        "vision_model.embeddings.patch_embedding.weight": (vision.width, 3, config.patch_size, config.patch_size),
        "vision_model.embeddings.position_embedding.weight": (config.patches + 1, vision.width),
        "text_model.embeddings.token_embedding.weight": (config.vocab_size, text.width),
        "text_model.embeddings.position_embedding.weight": (config.context_length, text.width),
        **_affine("vision_model.pre_layrnorm", vision.width),
        **_affine("vision_model.post_layernorm", vision.width),
        **_affine("text_model.final_layer_norm", text.width),
        **_tower("vision_model", vision),
        **_tower("text_model", text),
    }


def entries(config: CLIPConfig) -> dict[str, Entry]:
    """The table of a file in the layout of `transformers.CLIPModel`: every name stands for itself."""
    return {name: Entry(name) for name in shapes(config)}


def leaf(name: str) -> tuple[tuple[str, ...], int | None, tuple[int, ...] | None]:
    """A checkpoint name to the path in our tree, the layer it is stacked at, and its axes' permutation."""
    parts = name.split(".")
    layer = None
    if "layers" in parts:
        layer = int(parts.pop(parts.index("layers") + 1))
    module = parts[-2] if len(parts) > 1 else ""
    if parts[-1] != "weight":
        return tuple(parts), layer, None
    if "norm" in module:
        return (*parts[:-1], "scale"), layer, None
    if module in ("token_embedding", "position_embedding"):
        return (*parts[:-1], "embedding"), layer, None
    if module == "patch_embedding":
        return (*parts[:-1], "kernel"), layer, (2, 3, 1, 0)  # D, 3, p, p -> p, p, 3, D
    return (*parts[:-1], "kernel"), layer, (1, 0)  # outputs, inputs -> inputs, outputs


def check(found: Mapping[str, Shape], config: CLIPConfig, table: Mapping[str, Entry], source: str) -> None:
    """Compare the shapes in a file with those that `config` and the table of its layout ask for.

    Raises:
        UserError: missing, unexpected and misshapen names in one message, the first of each kind and how many more.
    """
    expected = {table[name].name: table[name].stored_shape(shape) for name, shape in shapes(config).items()}
    wrong = [
        f"{name} has shape {found[name]}, the config says {shape}"
        for name, shape in expected.items()
        if name in found and found[name] != shape and not (shape == () and found[name] == (1,))
    ]
    missing = [f"missing {name} {shape}" for name, shape in expected.items() if name not in found]
    unexpected = [
        f"unexpected {name} {shape}"
        for name, shape in found.items()
        if name not in expected and name.split(".")[-1] not in BUFFERS
    ]
    problems = [text for kind in (missing, unexpected, wrong) for text in _first(kind)]
    if problems:
        raise UserError(
            f"{source} does not hold the weights that the config beside it describes: {'; '.join(problems)}. Use the "
            "config and the weights of one checkpoint."
        )


def _first(problems: list[str]) -> list[str]:
    more = len(problems) - SHOWN
    return problems[:SHOWN] + ([f"and {more} more like these"] if more > 0 else [])


def _affine(name: str, width: int, inputs: int | None = None) -> dict[str, Shape]:
    return {f"{name}.weight": (width,) if inputs is None else (width, inputs), f"{name}.bias": (width,)}


def _tower(tower_name: str, tower: TowerConfig) -> dict[str, Shape]:
    table: dict[str, Shape] = {}
    for layer in range(tower.layers):
        name = f"{tower_name}.encoder.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            table |= _affine(f"{name}.self_attn.{projection}", tower.width, tower.width)
        table |= _affine(f"{name}.mlp.fc1", tower.mlp_width, tower.width)
        table |= _affine(f"{name}.mlp.fc2", tower.width, tower.mlp_width)
        table |= _affine(f"{name}.layer_norm1", tower.width) | _affine(f"{name}.layer_norm2", tower.width)
    return table
