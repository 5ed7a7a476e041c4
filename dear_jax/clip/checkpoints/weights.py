"""A backbone from a checkpoint: found, read, checked. Also saved, and started from random weights.

Parameters are a nested dict of float32 NumPy arrays under the names of `transformers.CLIPModel`; the layers of a tower
are stacked on a leading axis. Loading is a table of names (`clip.names`, `clip.open_clip`), strict in both directions.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from safetensors.numpy import save as save_tensors

from dear_jax.clip import tokenizer
from dear_jax.clip.checkpoints import names, open_clip, openai, positions, preprocessor
from dear_jax.clip.checkpoints.hub import Directory, Files, Repository, locate, read_json
from dear_jax.clip.checkpoints.tensors import Tensors, open_tensors, unsupported
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.clip.tokenizer import Tokenizer
from dear_jax.errors import UserError
from dear_jax.files import storage

EMBEDDED = {"embedded": Path(__file__).parents[1] / "embedded"}  # backbones that travel with the package
CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
WEIGHTS = "model.safetensors"
TRANSFORMERS, OPEN_CLIP, OPENAI = "transformers", "open_clip", "openai"  # layouts; the last two have the same names
CANDIDATES = {
    TRANSFORMERS: (WEIGHTS, "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"),
    OPEN_CLIP: ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
FLOATS = (np.float64, np.float32, np.float16, jnp.bfloat16)
MAX_LOGIT_SCALE = 12.0  # a scale of 160,000, beyond which float32 cosines have no meaning as logits


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A frozen CLIP, ready to use."""

    name: str
    config: CLIPConfig
    params: Params
    tokenizer: Tokenizer
    fingerprint: str  # of the checkpoint, and @ the image size if resized; role maps and adapters belong to one
    reading: str = ""  # names what the weights do not tell, `reading_of`; empty: not known


def load_backbone(name: str, image_size: int | None = None) -> Backbone:
    """Load a CLIP: embedded, from a directory or from the Hugging Face Hub, in transformers' or open_clip's layout.

    Args:
        name: an embedded backbone, the path of a directory or of a file of weights, a repository such as
            openai/clip-vit-base-patch16, or OpenAI's name, ViT-B/16.
        image_size: pixels; the position embeddings are resized to it. None: the checkpoint's own.

    Raises:
        UserError: nothing of that name; a file that is missing, truncated or for another architecture.
    """
    files: Files = Directory(EMBEDDED[name]) if name in EMBEDDED else locate(name)
    words = _load_tokenizer(files)  # before the weights, which may be a long download
    config, params = load_params(files)
    mark = fingerprint(params)
    if image_size is not None and image_size != config.image_size:
        config, params = positions.resize(config, params, image_size)
        mark = f"{mark}@{image_size}"
    name = files.name if isinstance(files, Repository) else name
    return Backbone(name, config, params, words, mark, reading_of(config, words))


def read_config(files: Files) -> CLIPConfig:
    """The architecture of a checkpoint, without its weights."""
    return _read_config(files)[0]


def load_params(files: Files) -> tuple[CLIPConfig, Params]:
    """The architecture and the parameters of a checkpoint, without its tokenizer."""
    config, layout = _read_config(files)
    return config, _read_params(files, config, layout)


def save(directory: str | Path, config: CLIPConfig, params: Params, dtype: Any = np.float16) -> None:
    """Write `config.json`, `preprocessor_config.json` and `model.safetensors` as transformers reads them."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: np.array(_take(params, name), dtype, order="C") for name in names.shapes(config)}
    storage.write(directory / "config.json", json.dumps(config.to_hf(), indent=2) + "\n")
    storage.write(directory / "preprocessor_config.json", json.dumps(_preprocessor(config), indent=2) + "\n")
    storage.write(directory / WEIGHTS, save_tensors(tensors, metadata={"format": "pt"}))


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


def shapes(config: CLIPConfig) -> Params:
    """The shapes of the parameters of an architecture, float32, as `jax.ShapeDtypeStruct`."""
    params: Params = {}
    depth = {"vision_model": config.vision.layers, "text_model": config.text.layers}
    for name, shape in names.shapes(config).items():
        path, layer, axes = names.leaf(name)
        stored = shape if axes is None else tuple(shape[axis] for axis in axes)
        node = params
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = jax.ShapeDtypeStruct(stored if layer is None else (depth[path[0]], *stored), jnp.float32)
    return params


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
    for path, leaf in sorted(flatten_dict(params, sep="/").items()):
        digest.update(f"{path} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf, np.float32).data)
    return digest.hexdigest()[:16]


def reading_of(config: CLIPConfig, words: Tokenizer) -> str:
    """Sixteen hexadecimal digits that name tokenizer, preprocessing and what else gives the parameters their meaning.

    A value of its own beside the fingerprint: what was made before there was one still fits its backbone.
    """
    towers = [(tower.activation, tower.heads, tower.layer_norm_epsilon) for tower in (config.vision, config.text)]
    content = [towers, config.pixel_mean, config.pixel_std, words.digest]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def parameter_count(params: Params) -> int:
    """Number of scalars in the tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _build(config: CLIPConfig, tensor: Callable[[str, tuple[int, ...]], np.ndarray]) -> Params:
    """Fill the tree tensor by tensor, so that no more than one tensor is held twice."""
    params: Params = {}
    depth = {"vision_model": config.vision.layers, "text_model": config.text.layers}
    for name, shape in names.shapes(config).items():
        path, layer, axes = names.leaf(name)
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
    path, layer, axes = names.leaf(name)
    node: Any = params
    for part in path:
        node = node[part]
    value = np.asarray(node if layer is None else node[layer])
    return value if axes is None else value.transpose(np.argsort(axes))


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


def _read_config(files: Files) -> tuple[CLIPConfig, str]:
    """The architecture, and the checkpoint's layout: where two are, transformers' counts."""
    if files.weights and (archive := open_tensors(files, [files.weights])).scripted:
        return openai.infer_config(archive.shapes, archive.source), OPENAI
    path, other = files.find(CONFIG), files.find(OPEN_CLIP_CONFIG)
    values = read_json(path) if path else {}
    if path and (values.get("model_type") == "clip" or not other):
        config = CLIPConfig.from_hf(values, str(path))
        if asked := next((found for file in preprocessor.FILES if (found := files.find(file))), None):
            mean, std = preprocessor.read(read_json(asked), config.image_size, str(asked))
            config = dataclasses.replace(config, pixel_mean=mean, pixel_std=std)
        return config, TRANSFORMERS
    if other:
        return open_clip.read_config(read_json(other), str(other)), OPEN_CLIP
    raise files.missing(f"{CONFIG} (transformers' CLIPModel) or {OPEN_CLIP_CONFIG}")


def _load_tokenizer(files: Files) -> Tokenizer:
    """The checkpoint's own. OpenAI's archives have none: all share one, found beside them or on the hub."""
    config, layout = _read_config(files)
    if layout != OPENAI or tokenizer.find(files):
        return tokenizer.load(files, config)
    try:
        return tokenizer.load(Repository(openai.TOKENIZER), config)
    except UserError as error:
        raise UserError(
            f"{files.weights} holds no tokenizer, as all of OpenAI's archives. Copy {tokenizer.OPENAI}, which lies in "
            f"the folder clip/ of OpenAI's code and of CoOp's, beside it. ({openai.TOKENIZER} has it too: {error})"
        ) from error


def _read_params(files: Files, config: CLIPConfig, layout: str) -> Params:
    tensors = open_tensors(files, [files.weights] if files.weights else CANDIDATES[layout])
    table = names.entries(config) if layout == TRANSFORMERS else open_clip.entries(config, tensors.shapes)
    names.check(tensors.shapes, config, table, tensors.source)

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        value = table[name].take(_read_float(tensors, table[name].name)).reshape(shape)
        if name == "logit_scale" and not value <= MAX_LOGIT_SCALE:
            raise UserError(
                f"{tensors.source}: {table[name].name} is {float(value):g}, the logarithm of the logit scale; expected "
                f"at most {MAX_LOGIT_SCALE:g} (CLIP's own is 4.6, a scale of 100). Use the original checkpoint."
            )
        return value

    return _build(config, tensor)


def _read_float(tensors: Tensors, name: str) -> np.ndarray:
    value = tensors.read(name)
    if value.dtype not in FLOATS:
        raise unsupported(tensors.source, name, str(value.dtype))
    bad = value.size - np.count_nonzero(np.isfinite(value.astype(np.float32)))
    if bad:
        raise UserError(
            f"{tensors.source}: {name} holds {bad} values (of {value.size}) that are not finite, NaN or infinite, as "
            "training in float16 may leave them: every prediction would be one label. Use an earlier checkpoint."
        )
    return value
