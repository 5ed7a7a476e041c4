"""Contributions by head and position: what they sum up to, and each of them by its definition in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.clip.layers import Tokens, unit
from dear_jax.clip.split import logit_scale
from dear_jax.roles import places
from dear_jax.roles.decompose import ReadOut, decompose, paths_and_heads, plain

COSINE = 1e-5  # float32 sums of a thousand parts, each with rounding of its own
PATCHES, COUNT, FIRST = 9, 3, 2  # of the small CLIP; learned tokens; J


def perturbed(params, seed=0):
    """Random biases and LayerNorms too, as in test_decompose."""
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * generator.normal(size=leaf.shape).astype(np.float32), params)


def images_of(config, count):
    size = config.image_size
    images = np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)
    return vision.normalize(jnp.asarray(images), config)


def texts_of(config, images, count):
    return unit(jnp.asarray(np.random.default_rng(2).normal(size=(images, count, config.embed_dim)), jnp.float32))


@pytest.mark.parametrize("first_layer", [1, 5])
def test_they_sum_up_to_the_logits_of_the_embedded_clip(first_layer):
    backbone = load_backbone("embedded")
    config, params = backbone.config, jax.device_put(backbone.params)
    pixels, texts = images_of(config, 4), texts_of(config, 4, 3)
    features = unit(jax.jit(lambda p, x: vision.encode(p, config, x))(params, pixels))
    expected = logit_scale(params) * jnp.einsum("bd,bcd->bc", features, texts)
    found = jax.jit(lambda p, x, t: places.locate(plain(p), config, x, t, first_layer))(params, pixels, texts)
    assert found.heads.shape == (4, 1, 3, 8 - first_layer, 8, 37)
    np.testing.assert_allclose(found.total()[:, 0], expected, atol=COSINE * float(logit_scale(params)))
    np.testing.assert_allclose(found.attention.sum(-1), 1, atol=1e-5)
    # Summed over the positions they are the heads' contributions that roles are found by.
    heads = jax.jit(lambda p, x: decompose(p, config, x, first_layer))(params, pixels).heads
    length = jnp.linalg.norm(vision.encode(params, config, pixels), axis=-1)
    along = logit_scale(params) * jnp.einsum("bnhd,bcd->bcnh", heads, texts) / length[:, None, None, None]
    np.testing.assert_allclose(found.heads.sum(-1)[:, 0], along, atol=COSINE * float(logit_scale(params)))


def test_the_map_of_a_head_for_its_own_text():
    backbone = load_backbone("embedded")
    images = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), np.uint8)
    texts = np.array(texts_of(backbone.config, 2, 8))  # of two layers
    found = places.map_heads(backbone, images, texts, 6, batch_size=2)
    assert found.shape == (3, 2, 8, 36)
    pixels = vision.normalize(jnp.asarray(images), backbone.config)
    for layer, head in ((0, 3), (1, 7)):
        own = jnp.broadcast_to(texts[None, layer, head][:, None], (3, 1, 128))
        whole = places.locate(plain(backbone.params), backbone.config, pixels, own)
        np.testing.assert_allclose(found[:, layer, head], whole.heads[:, 0, 0, 5 + layer, head, 1:], atol=1e-4)


def adapted(config, params, several):
    """All at once that a method may do: tokens with a beta per layer, a mask, projections, rows that are averaged."""
    generator = np.random.default_rng(3)
    count = config.vision.layers - FIRST + 1
    length = 1 + PATCHES + COUNT
    mask = generator.random((count, config.vision.heads, length, length)) < 0.7
    mask |= np.eye(length, dtype=bool)[None, None]
    values = generator.normal(size=(count if several else 1, COUNT, config.vision.width)).astype(np.float32)
    beta = np.array([0.3, 0.6] if several else [0.9], np.float32)
    kernels = generator.normal(size=(3, config.vision.width, config.embed_dim)).astype(np.float32)
    rows = ((0,), (1 + PATCHES,), (1 + PATCHES, 3 + PATCHES))
    tokens = Tokens(jnp.asarray(values), jnp.asarray(beta))
    return ReadOut(params, jnp.asarray(kernels), rows, tokens, jnp.asarray(mask), FIRST)


@pytest.mark.parametrize("several", [False, True])
def test_each_of_them_by_its_definition(clip_config, clip_params, several):
    read = adapted(clip_config, perturbed(clip_params), several)
    pixels, texts = images_of(clip_config, 2), texts_of(clip_config, 2, 2)
    found = jax.jit(
        lambda params, pixels, texts: places.locate(read._replace(params=params), clip_config, pixels, texts, FIRST)
    )(read.params, pixels, texts)
    whole = jax.jit(
        lambda params, pixels, texts: places.locate(read._replace(params=params), clip_config, pixels, texts)
    )(read.params, pixels, texts)
    # The layers below are of the class path alone; the others are the same, and so is the sum.
    np.testing.assert_allclose(whole.heads[:, :, :, FIRST - 1 :], found.heads, atol=COSINE)
    np.testing.assert_allclose(whole.total(), found.total(), atol=1e-3)
    assert np.abs(whole.heads[:, 0, :, 0, :, : 1 + PATCHES]).min() > 0
    for leaf in (whole.heads[:, 1:, :, 0], whole.heads[..., 0, :, 1 + PATCHES :], whole.attention[:, 1:, 0]):
        np.testing.assert_array_equal(leaf, 0)
    for image in range(len(pixels)):
        for path in range(len(read.rows)):
            for text in range(2):
                expected = by_definition(read, clip_config, pixels[image], np.asarray(texts[image, text]), path)
                one = [np.asarray(leaf[image, path, text]) for leaf in found[:5]]
                for name, ours, theirs in zip(found._fields, one, expected["parts"], strict=False):
                    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=3e-4, err_msg=name)
                np.testing.assert_allclose(found.total()[image, path, text], expected["logit"], atol=2e-3)
                np.testing.assert_allclose(sum(part.sum() for part in expected["parts"]), expected["logit"], atol=1e-9)
                np.testing.assert_allclose(found.attention[image, path], expected["attention"], atol=1e-5)


@pytest.mark.parametrize("first_layer", [1, FIRST, FIRST + 1])
@pytest.mark.parametrize("several", [False, True])
def test_whole_heads_of_every_path(clip_config, clip_params, several, first_layer):
    """What a head adds to a feature is what all places of it add to the logits of the axes of the joint space."""
    read = adapted(clip_config, perturbed(clip_params), several)
    pixels = images_of(clip_config, 2)
    axes = jnp.broadcast_to(jnp.eye(clip_config.embed_dim), (2, clip_config.embed_dim, clip_config.embed_dim))
    start = min(first_layer, FIRST)
    found = jax.jit(lambda x: paths_and_heads(read, clip_config, x, first_layer))(pixels)
    whole = jax.jit(lambda x, t: places.locate(read, clip_config, x, t, start))(pixels, axes)
    scale = np.asarray(logit_scale(read.params) / jnp.linalg.norm(found.features, axis=-1))
    np.testing.assert_allclose(found.features * scale[..., None], whole.total(), atol=1e-4)
    expected = np.moveaxis(np.asarray(whole.heads.sum(-1)), 2, -1)[:, :, first_layer - start :]
    np.testing.assert_allclose(found.heads * scale[..., None, None, None], expected, atol=1e-4)


def test_whole_heads_of_plain_clip(clip_config, clip_params):
    params, pixels = perturbed(clip_params), images_of(clip_config, 2)
    found, expected = (
        jax.jit(function)(pixels)
        for function in (
            lambda x: paths_and_heads(plain(params), clip_config, x, 2),
            lambda x: decompose(params, clip_config, x, 2),
        )
    )
    np.testing.assert_allclose(found.features[:, 0], expected.total(), atol=COSINE)
    np.testing.assert_allclose(found.heads[:, 0], expected.heads, atol=COSINE)


def by_definition(read, config, pixels, text, path):
    """One image, one path, one text in float64: every part is a vector that is carried to the end by itself."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), read.params)
    tower, epsilon = config.vision, config.vision.layer_norm_epsilon
    prefix = vision.prefix(jax.tree.map(jnp.float32, params), config, pixels[None], FIRST - 1)[0]
    x, rows = np.asarray(prefix, np.float64), read.rows[path]
    values, betas = (np.asarray(leaf, np.float64) for leaf in read.tokens)
    stack = params["vision_model"]["encoder"]["layers"]
    mask = np.asarray(read.head_mask)
    heads, head_width = tower.heads, tower.head_width

    def norm(values, own):
        centred = values - values.mean(-1, keepdims=True)
        return centred / np.sqrt(values.var(-1, keepdims=True) + epsilon) * own["scale"] + own["bias"]

    # What each part is of the residual stream at the rows, as vectors: [rows, D] each.
    carried = {"attention": []}
    layers_of = range(FIRST - 1, tower.layers)
    parts = {}  # (kind, layer, head, position) -> [rows, D]
    for i, layer in enumerate(layers_of):
        learned = values[i if len(values) > 1 else 0]
        beta = betas[i if len(betas) > 1 else 0]
        if i == 0:
            x = np.concatenate([x, learned])
            carried["before"] = x[list(rows)]
        else:
            x = x.copy()
            x[1 + PATCHES :] = beta * learned + (1 - beta) * x[1 + PATCHES :]
            for r, row in enumerate(rows):
                if row > PATCHES:
                    for key in parts:
                        parts[key][r] = (1 - beta) * parts[key][r]
                    carried["before"][r] = (1 - beta) * carried["before"][r] + beta * learned[row - 1 - PATCHES]
        one = jax.tree.map(lambda leaf, layer=layer: leaf[layer], stack)
        normed, attention = norm(x, one["layer_norm1"]), one["self_attn"]
        query, key, value = (
            (normed @ attention[n]["kernel"] + attention[n]["bias"]).reshape(len(x), heads, head_width)
            for n in ("q_proj", "k_proj", "v_proj")
        )
        logits = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(head_width)
        logits = np.where(mask[i], logits, -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        kernel = attention["out_proj"]["kernel"].reshape(heads, head_width, tower.width)
        for h in range(heads):
            for p in range(len(x)):
                parts["heads", i, h, p] = np.stack([weights[h, row, p] * (value[p, h] @ kernel[h]) for row in rows])
        outputs = np.einsum("hqk,khd->qhd", weights, value)
        middle = x + np.einsum("qhd,hdD->qD", outputs, kernel) + attention["out_proj"]["bias"]
        parts["biases", i] = np.stack([attention["out_proj"]["bias"]] * len(rows))
        hidden = norm(middle, one["layer_norm2"]) @ one["mlp"]["fc1"]["kernel"] + one["mlp"]["fc1"]["bias"]
        hidden = hidden / (1 + np.exp(-1.702 * hidden))
        mlp = hidden @ one["mlp"]["fc2"]["kernel"] + one["mlp"]["fc2"]["bias"]
        parts["mlps", i] = mlp[list(rows)].copy()
        x = middle + mlp
        carried["attention"].append(weights[:, list(rows)].mean(1))
    last = params["vision_model"]["post_layernorm"]
    ends = x[list(rows)]
    kernel = np.asarray(read.kernels[path], np.float64)
    feature = (norm(ends, last) @ kernel).mean(0)
    scale = min(np.exp(params["logit_scale"]), 100.0) / np.linalg.norm(feature)

    def to_logit(part):
        centred = (part - part.mean(-1, keepdims=True)) / np.sqrt(ends.var(-1, keepdims=True) + epsilon)
        return scale * (centred * last["scale"] @ kernel).mean(0) @ text

    count, length = len(layers_of), len(x)
    found = np.array(
        [[[to_logit(parts["heads", i, h, p]) for p in range(length)] for h in range(heads)] for i in range(count)]
    )
    of_layers = [np.array([to_logit(parts[kind, i]) for i in range(count)]) for kind in ("mlps", "biases")]
    return {
        "parts": [found, *of_layers, to_logit(carried["before"]), scale * last["bias"] @ kernel @ text],
        "logit": scale * feature @ text,
        "attention": np.stack(carried["attention"]),
    }
