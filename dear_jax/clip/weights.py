"""A checkpoint directory in Hugging Face's CLIP layout: load it, save it, start one from random weights.

Parameters are a nested dict of float32 NumPy arrays under the checkpoint's own names; the layers of a tower are
stacked on a leading axis. Loading is a rename table (`checkpoint_shapes`, `_leaf`), strict in both directions.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.clip.layers import Params
from dear_jax.clip.tokenizer import Tokenizer
from dear_jax.errors import UserError

EMBEDDED = {"embedded": Path(__file__).parent / "embedded"}  # backbones that travel with the package
WEIGHTS = "model.safetensors"
IGNORED = (
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
)  # buffers of old versions


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen CLIP, ready to use."""

    name: str
    config: CLIPConfig
    params: Params
    tokenizer: Tokenizer
    fingerprint: str  # of the parameters; role maps and adapters belong to one fingerprint


def load_backbone(name: str) -> Backbone:
    """Load an embedded backbone by name or a checkpoint directory.

    Raises:
        UserError: no such name or directory; a file that is missing, truncated or for another architecture.
    """
    directory = EMBEDDED.get(name, Path(name))
    if not directory.is_dir():
        raise UserError(
            f"config.backbone is {name!r}: expected one of {', '.join(EMBEDDED)}, or the path of a checkpoint "
            "directory with config.json, model.safetensors and tokenizer files; found no such directory."
        )
    config = _read_config(directory)
    params = _load_params(directory / WEIGHTS, config)
    tokenizer = Tokenizer(directory, config.context_length)
    return Backbone(name, config, params, tokenizer, fingerprint(params))


def save(directory: str | Path, config: CLIPConfig, params: Params, dtype: Any = np.float16) -> None:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors` as transformers reads them."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.array(_take(params, name), dtype, order="C") for name in checkpoint_shapes(config)}
    (directory / "config.json").write_text(json.dumps(config.to_hf(), indent=2) + "\n")
    (directory / "preprocessor_config.json").write_text(json.dumps(_preprocessor(config), indent=2) + "\n")
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / WEIGHTS).chmod(0o644)  # safetensors makes files that only their owner can read


def initialize(config: CLIPConfig, seed: int) -> Params:
    """Random parameters by OpenAI's initialisation: scaled normals, zero biases, unit LayerNorms."""
    generator = np.random.default_rng(seed)

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name == "logit_scale":
            return np.full(shape, np.log(1 / 0.07), np.float32)
        if name.endswith("bias"):
            return np.zeros(shape, np.float32)
        if "norm" in name:  # layer_norm1, post_layernorm, pre_layrnorm, ...
            return np.ones(shape, np.float32)
        return generator.normal(0.0, _initial_std(name, config), shape).astype(np.float32)

    return _build(config, tensor)


def cast(params: Params, dtype: Any) -> Params:
    """The towers' matrices and embeddings in the compute dtype; LayerNorms, projections and logit scale float32."""

    def convert(path: tuple[Any, ...], leaf: np.ndarray) -> np.ndarray:
        names = [entry.key for entry in path]
        exact = any("norm" in name or "projection" in name for name in names)
        return leaf if exact or names[-1] == "logit_scale" else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(convert, params)


def fingerprint(params: Params) -> str:
    """Sixteen hexadecimal digits that name the parameters, whatever file or precision they were stored in."""
    digest = hashlib.sha256()
    for path, leaf in sorted(_leaves(params)):
        digest.update(f"{path} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf, np.float32).data)
    return digest.hexdigest()[:16]


def parameter_count(params: Params) -> int:
    """Number of scalars in the tree."""
    return sum(leaf.size for _, leaf in _leaves(params))


def checkpoint_shapes(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint by its Hugging Face name, with its shape there."""
    vision, text = config.vision, config.text
    return {
        "logit_scale": (),
        "visual_projection.weight": (config.embed_dim, vision.width),
        "text_projection.weight": (config.embed_dim, text.width),
        "vision_model.embeddings.class_embedding": (vision.width,),
        "vision_model.embeddings.patch_embedding.weight": (
            vision.width,
            3,
            config.patch_size,
            config.patch_size,
        ),
        "vision_model.embeddings.position_embedding.weight": (config.patches + 1, vision.width),
        "text_model.embeddings.token_embedding.weight": (config.vocab_size, text.width),
        "text_model.embeddings.position_embedding.weight": (config.context_length, text.width),
        **_affine("vision_model.pre_layrnorm", vision.width),
        **_affine("vision_model.post_layernorm", vision.width),
        **_affine("text_model.final_layer_norm", text.width),
        **_tower_shapes("vision_model", vision),
        **_tower_shapes("text_model", text),
    }


def _affine(name: str, width: int, inputs: int | None = None) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.weight": (width,) if inputs is None else (width, inputs),
        f"{name}.bias": (width,),
    }


def _tower_shapes(tower_name: str, tower: TowerConfig) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(tower.layers):
        name = f"{tower_name}.encoder.layers.{layer}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _affine(f"{name}.self_attn.{projection}", tower.width, tower.width)
        shapes |= _affine(f"{name}.mlp.fc1", tower.mlp_width, tower.width)
        shapes |= _affine(f"{name}.mlp.fc2", tower.width, tower.mlp_width)
        shapes |= _affine(f"{name}.layer_norm1", tower.width) | _affine(f"{name}.layer_norm2", tower.width)
    return shapes


def _leaf(name: str) -> tuple[tuple[str, ...], int | None, tuple[int, ...] | None]:
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


def _build(config: CLIPConfig, tensor: Callable[[str, tuple[int, ...]], np.ndarray]) -> Params:
    """Fill the tree tensor by tensor, so that no more than one tensor is held twice."""
    params: Params = {}
    depth = {"vision_model": config.vision.layers, "text_model": config.text.layers}
    for name, shape in checkpoint_shapes(config).items():
        path, layer, axes = _leaf(name)
        value = tensor(name, shape)
        value = value if axes is None else value.transpose(axes)
        node = params
        for part in path[:-1]:
            node = node.setdefault(part, {})
        if layer is None:
            node[path[-1]] = np.array(value, np.float32, order="C")
            continue
        if path[-1] not in node:
            node[path[-1]] = np.empty((depth[path[0]], *value.shape), np.float32)
        node[path[-1]][layer] = value
    return params


def _take(params: Params, name: str) -> np.ndarray:
    """The tensor of a checkpoint name, in the checkpoint's layout."""
    path, layer, axes = _leaf(name)
    node: Any = params
    for part in path:
        node = node[part]
    value = np.asarray(node if layer is None else node[layer])
    return value if axes is None else value.transpose(np.argsort(axes))


def _leaves(params: Params, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in params.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value)


def _initial_std(name: str, config: CLIPConfig) -> float:
    tower = config.vision if name.startswith("vis") else config.text
    if "embedding" in name:
        return {"token_embedding": 0.02, "position_embedding": 0.01}.get(name.split(".")[-2], tower.width**-0.5)
    depth_scale = (2 * tower.layers) ** -0.5
    if name.endswith(("out_proj.weight", "fc2.weight")):
        return tower.width**-0.5 * depth_scale
    if name.endswith("fc1.weight"):
        return (2 * tower.width) ** -0.5
    return tower.width**-0.5


def _preprocessor(config: CLIPConfig) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": config.image_size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": config.image_size, "width": config.image_size},
        "do_convert_rgb": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(config.pixel_mean),
        "image_std": list(config.pixel_std),
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f"{path.parent}: expected a CLIP checkpoint directory with config.json and {WEIGHTS}; "
            f"{path.name} is missing."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}). Copy the file again.") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}. Copy the file again.")
    return value


def _read_config(directory: Path) -> CLIPConfig:
    preprocessor_file = directory / "preprocessor_config.json"
    preprocessor = _read_json(preprocessor_file) if preprocessor_file.exists() else None
    return CLIPConfig.from_hf(_read_json(directory / "config.json"), preprocessor, str(directory / "config.json"))


def _load_params(path: Path, config: CLIPConfig) -> Params:
    if not path.exists():
        raise UserError(f"{path.parent}: expected the weights in {path.name}, found no such file. Copy it there.")
    try:
        with safe_open(path, "np") as tensors:
            names = list(tensors.keys())
            _check_names(
                path,
                {name: tuple(tensors.get_slice(name).get_shape()) for name in names},
                config,
            )
            return _build(config, lambda name, _: tensors.get_tensor(name))
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): truncated or not safetensors. Copy the file again."
        ) from error


def _check_names(path: Path, found: dict[str, tuple[int, ...]], config: CLIPConfig) -> None:
    expected = checkpoint_shapes(config)
    problems = [f"missing {name} {expected[name]}" for name in expected if name not in found]
    problems += [f"unexpected {name} {found[name]}" for name in found if name not in expected and name not in IGNORED]
    problems += [
        f"{name} has shape {found[name]}, config.json says {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    if problems:
        raise UserError(
            f"{path} does not hold the weights that config.json beside it describes: {'; '.join(problems)}. Use the "
            "config.json and the weights of one checkpoint."
        )
