"""The package's step and the same mathematics written plainly in PyTorch: one loss, the same gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from dear_jax.clip import tokenizer
from dear_jax.clip.split import Frozen, Split
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import DeAR, Settings, Start
from experiments.speed.torch_reference import TorchReference, to_torch

ATTRIBUTES = ("color", "shape")


@pytest.mark.parametrize("layer", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_loss_and_gradients_agree(clip_config, clip_params, layer):
    method = DeAR(Split(clip_config, layer, layer), ATTRIBUTES, text_count=3, shared_projection=layer != 2)
    generator = np.random.default_rng(layer)
    ids = np.zeros((5, clip_config.context_length), np.int32)
    for row, length in zip(ids, (5, 8, 6, 7, 5), strict=True):
        row[:length] = generator.integers(1, 48, length)
        row[:3], row[length - 1] = (48, 7, 9), 49
    images = generator.integers(0, 256, (4, clip_config.image_size, clip_config.image_size, 3), np.uint8)
    labels = generator.integers(0, 5, 4)
    roles = patterns.plain_roles("random", 4 - layer, clip_config.vision.heads, ATTRIBUTES, 0)
    head_mask = mask.build(roles, ATTRIBUTES, 1 + clip_config.patches)
    classes = jnp.zeros((5, clip_config.embed_dim))  # do not count
    adapter = method.init(jax.random.key(0), clip_params, classes, Start(init_std=0.5))

    reference = TorchReference(
        method, to_torch(clip_params), torch.from_numpy(ids).long(), to_torch(head_mask), 0.9, 2.0, 0.1
    )
    theirs = {name: to_torch(leaf).requires_grad_() for name, leaf in adapter.items()}
    expected = reference.loss(theirs, to_torch(images), to_torch(labels))
    expected.backward()

    frozen = Frozen(clip_params, method.split.encode_prompts(clip_params, tokenizer.shorten(ids)))
    settings = Settings(jnp.asarray(head_mask), jnp.float32(0.9), jnp.float32(2.0), jnp.float32(0.1))
    differentiate = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    seen = method.split.look(clip_params, jnp.asarray(images))
    (loss, _), gradients = differentiate(adapter, settings, frozen, seen, labels)

    # Float32 sums in another order, through three layers and back.
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-5)
    for name, gradient in gradients.items():
        theirs_gradient = theirs[name].grad.numpy()
        np.testing.assert_allclose(gradient, theirs_gradient, rtol=0, atol=1e-4 * np.abs(theirs_gradient).max())
