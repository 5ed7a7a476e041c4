"""What the official modules of other methods gave, on weights that a rule makes from names.

The rule: for a name n and a shape, `RandomState(crc32(n) & 0x7fffffff).standard_normal(shape)` times a scale that the
kind of the parameter decides. So anybody who runs an official module on these weights finds the numbers of the tests;
arrays too large for a test file are in `shared/data/golden`, and tests that need them are skipped where it is absent.
"""

import functools
import json
import math
import tempfile
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from dear_jax.clip import vision
from dear_jax.clip.checkpoints import architectures, hub, weights
from dear_jax.clip.layers import unit
from dear_jax.clip.split import Frozen, Seen
from dear_jax.setup import config_files, methods, recipes, values
from tests.repository import REPOSITORY, SHARED

GOLDEN = SHARED / "data" / "golden"
LABELS = jnp.asarray([1, 2], jnp.int32)
CLASS_NAMES = ("sea_horse", "ant", "annual crop land")
WIDTH = {"visual.": 768, "": 512}
# "a photo of a NAME." of the class names, by CLIP's tokenizer.
START, END, A_PHOTO_OF_A, DOT = 49406, 49407, (320, 1125, 539, 320), 269
NAME_IDS = ((2102, 4558), (773,), (2906, 9955, 973))


def normal(name: str, *shape: int) -> np.ndarray:
    """Standard normal numbers, float32, which the name decides."""
    state = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    return state.standard_normal(shape).astype(np.float32)


def adapter(name: str, *shape: int, std: float) -> jax.Array:
    """A learned array of a method, by its official name."""
    return jnp.asarray(std * normal(f"adapter.{name}", *shape))


def images() -> np.ndarray:
    """Two, as normalised pixels `[2, 32, 32, 3]`."""
    return normal("images", 2, 3, 32, 32).transpose(0, 2, 3, 1)


def array(file: str, name: str) -> np.ndarray:
    """An array of a golden file."""
    return read(file)[name]


@functools.cache
def read(file: str):
    """A golden file; the test is skipped where there is none."""
    path = GOLDEN / f"{file}.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return np.load(path)


@functools.cache
def backbone(blocks: int = 4):
    """Configuration and parameters of the rule's CLIP, from a checkpoint of open_clip's names."""
    with tempfile.TemporaryDirectory() as folder:
        towers = {"embed_dim": 512, "quick_gelu": True}
        towers["vision_cfg"] = {"image_size": 32, "layers": blocks, "width": 768, "patch_size": 16, "head_width": 64}
        towers["text_cfg"] = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": blocks}
        (Path(folder) / "open_clip_config.json").write_text(json.dumps({"model_cfg": towers, "preprocess_cfg": {}}))
        save_file(_state(blocks), Path(folder) / "open_clip_model.safetensors")
        config, params = weights.load_params(hub.locate(folder))
    return config, jax.tree.map(jnp.asarray, params)


def _state(blocks: int) -> dict[str, np.ndarray]:
    def scaled(name: str, *shape: int) -> np.ndarray:
        z, last = normal(name, *shape), name.rsplit(".", 1)[-1]
        if "ln_" in name:
            return 1 + 0.1 * z if last == "weight" else 0.05 * z
        if "embedding" in name:
            return 0.3 * z
        if last in ("proj", "text_projection"):
            return z / math.sqrt(shape[0])
        if last in ("bias", "in_proj_bias"):
            return 0.02 * z
        return z / math.sqrt(3 * 16 * 16 if name.endswith("conv1.weight") else shape[-1])

    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (768,),
        "visual.positional_embedding": (5, 768),
        "visual.proj": (768, 512),
        "visual.conv1.weight": (768, 3, 16, 16),
        **_norm("visual.ln_pre", 768),
        **_norm("visual.ln_post", 768),
        "positional_embedding": (77, 512),
        "token_embedding.weight": (49408, 512),
        "text_projection": (512, 512),
        **_norm("ln_final", 512),
    }
    for prefix, width in WIDTH.items():
        for number in range(blocks):
            block = f"{prefix}transformer.resblocks.{number}"
            shapes |= {
                f"{block}.attn.in_proj_weight": (3 * width, width),
                f"{block}.attn.in_proj_bias": (3 * width,),
                **_linear(f"{block}.attn.out_proj", width, width),
                **_norm(f"{block}.ln_1", width),
                **_norm(f"{block}.ln_2", width),
                **_linear(f"{block}.mlp.c_fc", width, 4 * width),
                **_linear(f"{block}.mlp.c_proj", 4 * width, width),
            }
    state = {name: np.ascontiguousarray(scaled(name, *shape)) for name, shape in shapes.items()}
    return state | {"logit_scale": np.asarray(math.log(100), np.float32)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def token_ids(front: tuple[int, ...] = A_PHOTO_OF_A, behind: tuple[int, ...] = (DOT,)) -> np.ndarray:
    """Ids `[3, T]` of the class names between some words."""
    ids = np.zeros((3, 77), np.int32)
    for row, name in zip(ids, NAME_IDS, strict=True):
        words = (START, *front, *name, *behind, END)
        row[: len(words)] = words
    return ids[:, :20]


def look(split, params, pixels: np.ndarray) -> Seen:
    """`Split.look` of pixels that are normalised already."""
    config = split.config
    prefix = vision.prefix(params, config, jnp.asarray(pixels), split.vision_layer - 1)
    x = vision.read_suffix(params, config, prefix, split.vision_layer)
    return Seen(prefix, unit(vision.project(params, config, x[:, 0])))


def call(method, learned, settings, ids: np.ndarray, targets=None, blocks: int = 4, carried=()):
    """Logits of every path, loss, its parts and its gradient, of the two images."""
    _, params = backbone(blocks)
    prompts = method.encode_prompts(params, ids)
    if targets is not None:
        prompts = prompts._replace(features=jnp.asarray(targets))
    frozen = Frozen(params, prompts)
    seen = look(method.split, params, images())

    @jax.jit
    def run(learned):
        classes = method.classes(learned, settings, frozen)
        logits = method.logits(learned, settings, params, classes, seen)
        differentiate = jax.value_and_grad(method.loss, has_aux=True)
        (loss, parts), gradient = differentiate(learned, settings, frozen, seen, LABELS, carried)
        return logits, loss, parts, gradient

    return run(learned)


def check_gradient(found, expected, what: str = "") -> None:
    """Relative to the largest entry, 1e-3."""
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3 * scale, err_msg=what)


def count_parameters(name: str, dataset: str, protocol: str = "base2new", classes: int = 50, shots: int = 16, **keys):
    """Learned numbers of a method of the table on ViT-B/16, by its recipe, with other values for some of its keys."""
    config = config_files.load(f"{REPOSITORY}/configs/{protocol}.py:{dataset}")
    changes = {f"{name}.{key}": value for key, value in keys.items()}
    config = recipes.resolve(values.set_all(config, {"method": name, "data.shots": shots} | changes))
    clip = architectures.find("openai/clip-vit-base-patch16")
    entry = methods.find(name)
    options = values.read(entry.Options, config[name])
    method = entry.build(options, clip, jnp.float32, 0).sized(classes * shots)
    learned = method.adapter_like(weights.shapes(clip), classes, entry.start(options))
    return sum(math.prod(leaf.shape) for leaf in learned.values())
