"""Our CLIP against `transformers.CLIPModel` in torch, float32, random weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from dear_jax.clip import layers, text, vision
from dear_jax.clip.checkpoints import hub, weights
from tests import reference

# Float32 rounding over up to 24 layers; measured errors are about 1e-6.
RELATIVE = 1e-5

TINY = dict(
    vision_config=dict(
        hidden_size=48,
        intermediate_size=100,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=35,
        patch_size=7,
    ),
    text_config=dict(
        hidden_size=40,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=5,
        vocab_size=99,
        max_position_embeddings=13,
        bos_token_id=97,
        eos_token_id=98,
    ),
    projection_dim=24,
)


def openai(patch_size: int, width: int = 768, layers: int = 12, heads: int = 12, text_width: int = 512) -> dict:
    """The architecture of openai/clip-vit-*."""
    return dict(
        vision_config=dict(
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            patch_size=patch_size,
        ),
        text_config=dict(
            hidden_size=text_width,
            intermediate_size=4 * text_width,
            num_attention_heads=text_width // 64,
        ),
        projection_dim=text_width,
    )


ARCHITECTURES = {
    "odd": TINY,
    "odd-gelu": {
        **TINY,
        "vision_config": TINY["vision_config"] | {"hidden_act": "gelu", "layer_norm_eps": 1e-6},
        "text_config": TINY["text_config"] | {"hidden_act": "gelu"},
    },
    "odd-legacy-eos": {**TINY, "text_config": TINY["text_config"] | {"eos_token_id": 2}},
    "base-patch32": openai(32),
    "base-patch16": openai(16),
    "large-patch14": openai(14, 1024, 24, 16, 768),
}
FULL_SIZE = [pytest.param(name, marks=pytest.mark.slow) for name in ("base-patch32", "base-patch16", "large-patch14")]


def random_model(name: str) -> transformers.CLIPModel:
    """Random weights, also where transformers starts with zeros and ones."""
    torch.manual_seed(0)
    model = transformers.CLIPModel(transformers.CLIPConfig(**ARCHITECTURES[name])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def relative_error(ours: np.ndarray, theirs: torch.Tensor) -> float:
    reference = theirs.detach().numpy()
    return float(np.linalg.norm(np.asarray(ours) - reference) / np.linalg.norm(reference))


def load(model: transformers.CLIPModel, directory) -> tuple:
    model.save_pretrained(directory)
    return weights.load_params(hub.locate(str(directory)))


def prompts(config, count: int, seed: int = 0) -> np.ndarray:
    """Random prompts of different lengths: words, the end mark (the largest id), padding."""
    generator = np.random.default_rng(seed)
    end = config.vocab_size - 1
    ids = np.zeros((count, config.context_length), np.int32)
    for row in ids:
        length = generator.integers(3, config.context_length + 1)
        row[:length] = generator.integers(3, end - 1, length)
        row[0], row[length - 1] = end - 1, end
    return ids


@pytest.mark.parametrize("name", ["odd", "odd-gelu", "odd-legacy-eos", *FULL_SIZE])
def test_features_and_pixel_gradients(name, tmp_path):
    model = random_model(name)
    config, params = load(model, tmp_path)
    size = config.image_size
    pixels = np.random.default_rng(1).normal(size=(2, size, size, 3)).astype(np.float32)
    direction = np.random.default_rng(2).normal(size=(2, config.embed_dim)).astype(np.float32)

    their_pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()).requires_grad_()
    their_image = model.get_image_features(pixel_values=their_pixels).pooler_output
    (their_image * torch.from_numpy(direction)).sum().backward()
    image, pullback = jax.vjp(lambda x: vision.encode(params, config, x), jnp.asarray(pixels))
    assert relative_error(image, their_image) < RELATIVE
    (gradient,) = pullback(jnp.asarray(direction))
    assert relative_error(gradient.transpose(0, 3, 1, 2), their_pixels.grad) < RELATIVE

    ids = prompts(config, 4)
    their_text = model.get_text_features(input_ids=torch.from_numpy(ids).long()).pooler_output
    assert relative_error(text.encode(params, config, jnp.asarray(ids)), their_text) < RELATIVE


@pytest.mark.parametrize("split", [0, 1, 3])
def test_prefix_and_suffix_make_the_whole(split, tmp_path):
    config, params = load(random_model("odd"), tmp_path)
    pixels = np.random.default_rng(1).normal(size=(2, 35, 35, 3)).astype(np.float32)
    x = vision.prefix(params, config, jnp.asarray(pixels), split)
    whole = layers.run_blocks(config.vision, params["vision_model"]["encoder"]["layers"], x, first=split + 1)
    read = [vision.read_suffix(params, config, x, split + 1)] if split < config.vision.layers else []
    for rows in (whole, *read):
        np.testing.assert_allclose(
            vision.project(params, config, rows[:, 0]),
            vision.encode(params, config, jnp.asarray(pixels)),
            rtol=0,
            atol=1e-6,
        )


def test_analysis_is_what_attention_did(tmp_path):
    model = random_model("odd")
    model.set_attn_implementation("eager")
    config, params = load(model, tmp_path)
    pixels = np.random.default_rng(1).normal(size=(2, 35, 35, 3)).astype(np.float32)
    _, analyses = reference.vision_suffix(params, config, vision.embed(params, config, jnp.asarray(pixels)), 1)
    theirs = model.vision_model(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()), output_attentions=True)
    for analysis, attention in zip(analyses, theirs.attentions, strict=True):
        assert relative_error(analysis.probabilities, attention) < RELATIVE
        assert analysis.head_outputs.shape == (2, 26, 4, 12)
    assert len(analyses) == 3


def test_bfloat16_stays_near_float32(tmp_path):
    config, params = load(random_model("odd"), tmp_path)
    pixels = np.random.default_rng(1).normal(size=(4, 35, 35, 3)).astype(np.float32)
    exact = vision.encode(params, config, jnp.asarray(pixels))
    rounded = vision.encode(params, config, jnp.asarray(pixels), jnp.bfloat16)
    assert rounded.dtype == jnp.float32
    # bfloat16 keeps 8 bits: 2^-8 per product, averaged over a few layers.
    assert float(jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact)) < 0.02
