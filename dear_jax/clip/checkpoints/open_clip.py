"""open_clip's layout: `open_clip_config.json`, and weights under other names with query, key and value fused.

The config's defaults are those of open_clip's own classes, which define the format: without `quick_gelu` the
activation is GELU, without `head_width` a head has 64 channels, without `norm_kwargs` the LayerNorm epsilon is 1e-5.
Whatever this package does not build is refused by name.
"""

from collections.abc import Collection, Mapping
from typing import Any

from dear_jax.clip.checkpoints.names import Entry, shapes
from dear_jax.clip.config import (
    LEGACY_EOS,
    MOST_LAYERS,
    OPENAI_MEAN,
    OPENAI_STD,
    CLIPConfig,
    TowerConfig,
    channels,
    count,
    epsilon,
    is_number,
    square,
)
from dear_jax.errors import UserError

LAYER_NORM_EPSILON = 1e-5
MOST_RATIO = 1000  # of widths: beyond any CLIP

# Options that may have any value: those that are read, and those that change nothing in a frozen plain CLIP.
MODEL = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"}
MODEL |= {"custom_text", "init_logit_scale", "nonscalar_logit_scale"}
VISION = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size", "norm_kwargs", "patch_dropout"}
VISION |= {"attn_pooler_queries", "attn_pooler_heads", "timm_pool", "timm_proj", "timm_drop", "timm_drop_path"}
TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs", "pad_id", "eos_id"}
TEXT |= {"hf_model_pretrained", "hf_proj_type", "hf_pooler_type"}
PREPROCESS = {"mean", "std", "size", "mode", "fill_color"}

# Options of which one value is supported, open_clip's default. Every other option has to be empty.
FIXED = {
    "pos_embed_type": "learnable",
    "block_type": "default",
    "proj_type": "linear",
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
POOL = {"vision_cfg": "tok", "text_cfg": "argmax"}

# Names in transformers.CLIPModel and in open_clip. The towers' names come twice: whole, and within a block.
_VISION_NAMES = {
    "visual_projection.weight": "visual.proj",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding": "visual.conv1",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
    "vision_model.encoder.layers": "visual.transformer.resblocks",
}
_TEXT_NAMES = {
    "text_projection.weight": "text_projection",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
}
_BLOCK_NAMES = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_FUSED = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}


def read_config(values: Mapping[str, Any], source: str) -> CLIPConfig:
    """Read the dictionary of `open_clip_config.json`.

    Raises:
        UserError: not such a config, or every option that is not supported, by name.
    """
    model, preprocess = values.get("model_cfg") or {}, values.get("preprocess_cfg") or {}
    whole = isinstance(model, Mapping) and isinstance(preprocess, Mapping) and "embed_dim" in model
    if not whole or not all(isinstance(model.get(name), Mapping) for name in ("vision_cfg", "text_cfg")):
        raise UserError(
            f"{source}: expected model_cfg with embed_dim, vision_cfg and text_cfg, as open_clip publishes it. Copy "
            "the file of the checkpoint again."
        )
    vision, text = model["vision_cfg"], model["text_cfg"]
    _refuse(model, preprocess, source)
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    in_vision, in_text = f"{source}: vision_cfg", f"{source}: text_cfg"
    vision_width = count(vision.get("width", 768), f"{in_vision}.width")
    vision_heads = vision_width // count(vision.get("head_width", 64), f"{in_vision}.head_width")
    text_width = count(text.get("width", 512), f"{in_text}.width")
    text_heads = count(text.get("heads", 8), f"{in_text}.heads")
    vocab_size = count(text.get("vocab_size", 49408), f"{in_text}.vocab_size", least=3)
    return CLIPConfig(
        vision=_tower(vision, vision_width, vision_heads, activation, in_vision),
        text=_tower(text, text_width, text_heads, activation, in_text),
        image_size=square(vision.get("image_size", 224), f"{in_vision}.image_size"),
        patch_size=square(vision.get("patch_size", 16), f"{in_vision}.patch_size"),
        embed_dim=count(model["embed_dim"], f"{source}: model_cfg.embed_dim"),
        vocab_size=vocab_size,
        context_length=count(text.get("context_length", 77), f"{in_text}.context_length"),
        bos_token_id=vocab_size - 2,
        eos_token_id=LEGACY_EOS,  # pool_type argmax: the largest id is the end of the text
        pixel_mean=channels(preprocess.get("mean") or OPENAI_MEAN, f"{source}: preprocess_cfg.mean"),
        pixel_std=channels(preprocess.get("std") or OPENAI_STD, f"{source}: preprocess_cfg.std", positive=True),
    )


def entries(config: CLIPConfig, found: Collection[str]) -> dict[str, Entry]:
    """The table of a file: a text tower of its own (`text.`) or flat, as the names in it show."""
    prefix = "text." if any(name.startswith("text.") for name in found) else ""
    text_names = {name: prefix + theirs for name, theirs in _TEXT_NAMES.items()}
    return {name: _entry(name, {**_VISION_NAMES, **text_names}) for name in shapes(config)}


def _entry(name: str, table: Mapping[str, str]) -> Entry:
    module = next((module for module in table if name == module or name.startswith(f"{module}.")), None)
    if module is None:
        return Entry(name)  # logit_scale
    theirs, rest = table[module], name[len(module) :]
    if not module.endswith("encoder.layers"):
        return Entry(theirs + rest, transposed=theirs.endswith("proj") or theirs.endswith("text_projection"))
    _, layer, part = rest.split(".", 2)
    inner, kind = part.rsplit(".", 1)
    if inner in _FUSED:
        return Entry(f"{theirs}.{layer}.attn.in_proj_{kind}", third=_FUSED[inner])
    return Entry(f"{theirs}.{layer}.{_BLOCK_NAMES[inner]}.{kind}")


def _tower(values: Mapping[str, Any], width: int, heads: int, activation: str, source: str) -> TowerConfig:
    if heads <= 0 or width % heads:
        raise UserError(f"{source}: width {width} cannot be shared by {heads} heads.")
    ratio = values.get("mlp_ratio", 4.0)
    if not is_number(ratio) or not 0 < ratio <= MOST_RATIO:
        raise UserError(
            f"{source}.mlp_ratio is {ratio!r}, expected a positive number of at most {MOST_RATIO}. Copy the file again."
        )
    norm = values.get("norm_kwargs") or {}
    return TowerConfig(
        width=width,
        layers=count(values.get("layers", 12), f"{source}.layers", most=MOST_LAYERS),
        heads=heads,
        mlp_width=int(width * ratio),
        activation=activation,
        layer_norm_epsilon=epsilon(norm.get("eps", LAYER_NORM_EPSILON), f"{source}.norm_kwargs.eps"),
    )


def _refuse(model: Mapping[str, Any], preprocess: Mapping[str, Any], source: str) -> None:
    vision, text = model["vision_cfg"], model["text_cfg"]
    problems = [
        *_unsupported(model, MODEL, "model_cfg"),
        *_unsupported(vision, VISION, "vision_cfg"),
        *_unsupported(text, TEXT, "text_cfg"),
        *_unsupported(preprocess, PREPROCESS, "preprocess_cfg"),
    ]
    if isinstance(vision.get("layers"), list | tuple):
        problems.append(f"vision_cfg.layers is {vision['layers']!r} (a ResNet)")
    for name, values in (("vision_cfg", vision), ("text_cfg", text)):
        norm = values.get("norm_kwargs") or {}
        if isinstance(norm, Mapping):
            problems += [f"{name}.norm_kwargs.{key}" for key in norm if key != "eps"]
        else:
            problems.append(f"{name}.norm_kwargs is {norm!r}")
    if problems:
        raise UserError(
            f"{source} asks for what this package does not build: {'; '.join(problems)}. Plain CLIP with a ViT and a "
            "causal text transformer is supported, such as laion/CLIP-ViT-B-16-laion2B-s34B-b88K."
        )


def _unsupported(values: Mapping[str, Any], supported: Collection[str], name: str) -> list[str]:
    fixed = FIXED | {"pool_type": POOL.get(name)}
    return [
        f"{name}.{key} is {value!r}"
        for key, value in values.items()
        if key not in supported and value and value != fixed.get(key)
    ]
