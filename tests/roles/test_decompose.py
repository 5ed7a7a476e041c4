"""The sum of all parts is the encoder's output, and ablation replaces exactly the heads that it is told to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import vision
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.clip.config import CLIPConfig, TowerConfig
from dear_jax.roles.decompose import ablate, decompose

RELATIVE = 1e-5  # float32 sums of about a hundred parts, each with rounding of its own


def perturbed(params, seed=0):
    """Random biases and LayerNorms too: a fresh CLIP has zeros and ones there, which would hide a lost term."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * generator.normal(size=leaf.shape).astype(np.float32), params)


def check_identity(params, config, images, first_layers):
    pixels = vision.normalize(jnp.asarray(images), config)
    expected = np.asarray(jax.jit(lambda p, x: vision.encode(p, config, x))(params, pixels))
    for first_layer in first_layers:
        parts = jax.jit(lambda p, x, j=first_layer: decompose(p, config, x, j))(params, pixels)
        error = np.linalg.norm(np.asarray(parts.total()) - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert error.max() < RELATIVE
        assert parts.heads.shape == (
            len(images), config.vision.layers - first_layer + 1, config.vision.heads, config.embed_dim,
        )  # fmt: skip


def images_for(config, count):
    size = config.image_size
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


def test_all_parts_sum_to_the_output_with_every_bias(clip_config, clip_params):
    check_identity(perturbed(clip_params), clip_config, images_for(clip_config, 4), (1, 3))


def test_all_parts_sum_to_the_output_of_the_embedded_clip():
    backbone = load_backbone("embedded")
    check_identity(backbone.params, backbone.config, images_for(backbone.config, 4), (1, 5))


@pytest.mark.slow
def test_all_parts_sum_to_the_output_of_a_vit_b16():
    config = CLIPConfig(
        vision=TowerConfig(768, 12, 12, 3072, "quick_gelu", 1e-5),
        text=TowerConfig(64, 1, 1, 64, "quick_gelu", 1e-5),
        image_size=224,
        patch_size=16,
        embed_dim=512,
        vocab_size=50,
        context_length=8,
        bos_token_id=48,
        eos_token_id=49,
    )
    check_identity(weights.initialize(config, seed=0), config, images_for(config, 2), (1, 9))


def test_the_single_layer_by_hand(clip_config, clip_params):
    """The last layer's heads, from its own attention written out in NumPy."""
    params = perturbed(clip_params)
    pixels = vision.normalize(jnp.asarray(images_for(clip_config, 3)), clip_config)
    x = np.asarray(vision.prefix(params, clip_config, pixels, 2), np.float64)
    layer = jax.tree.map(lambda leaf: np.asarray(leaf[2], np.float64), params["vision_model"]["encoder"]["layers"])

    def norm(values, weights_):
        centred = values - values.mean(-1, keepdims=True)
        return centred / np.sqrt(values.var(-1, keepdims=True) + 1e-5) * weights_["scale"] + weights_["bias"]

    normed = norm(x, layer["layer_norm1"])
    query, key, value = (
        (normed @ layer["self_attn"][n]["kernel"] + layer["self_attn"][n]["bias"]).reshape(3, 10, 8, 4)
        for n in ("q_proj", "k_proj", "v_proj")
    )
    logits = np.einsum("bhd,bkhd->bhk", query[:, 0], key) / 2
    attention = np.exp(logits - logits.max(-1, keepdims=True))
    attention /= attention.sum(-1, keepdims=True)
    outputs = np.einsum("bhk,bkhd->bhd", attention, value)
    heads = np.einsum("bhd,hdD->bhD", outputs, layer["self_attn"]["out_proj"]["kernel"].reshape(8, 4, 32))
    final = np.asarray(vision.prefix(params, clip_config, pixels, 3), np.float64)[:, 0]
    std = np.sqrt(final.var(-1) + 1e-5)
    post = np.asarray(params["vision_model"]["post_layernorm"]["scale"], np.float64)
    projection = np.asarray(params["visual_projection"]["kernel"], np.float64)
    expected = (heads - heads.mean(-1, keepdims=True)) / std[:, None, None] * post @ projection
    found = decompose(params, clip_config, pixels, 3).heads[:, 0]
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-4, atol=1e-4)


def test_ablation_replaces_the_given_heads_by_their_means():
    generator = np.random.default_rng(0)
    outputs, heads = generator.normal(size=(5, 7)), generator.normal(size=(5, 2, 3, 7))
    means = heads.mean(0)
    ablated = np.zeros((3, 2, 3), bool)
    ablated[1, 0, 2] = True
    ablated[2] = True
    changed = np.asarray(ablate(*map(jnp.float32, (outputs, heads, means)), jnp.asarray(ablated)))
    np.testing.assert_allclose(changed[:, 0], outputs, rtol=1e-6)
    np.testing.assert_allclose(changed[:, 1], outputs - heads[:, 0, 2] + means[0, 2], rtol=1e-5, atol=1e-6)
    rest = outputs - heads.sum((1, 2))
    np.testing.assert_allclose(changed[:, 2], rest + means.sum((0, 1)), rtol=1e-5, atol=1e-5)
