"""Products that a function asks for, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest

from dear_jax.clip import vision
from dear_jax.clip.checkpoints import weights
from dear_jax.tpu.flops import product_flops


def _tower(length: int, width: int, mlp_width: int, layers: int) -> int:
    projections, attention, mlp = 4 * length * width**2, 2 * length**2 * width, 2 * length * width * mlp_width
    return 2 * layers * (projections + attention + mlp)


def test_a_vision_tower_by_hand(clip_config):
    pixels = jax.ShapeDtypeStruct((2, 12, 12, 3), jnp.float32)
    traced = jax.jit(lambda params, x: vision.encode(params, clip_config, x)).trace(weights.shapes(clip_config), pixels)
    tower = clip_config.vision
    embedding = 2 * clip_config.patches * 4 * 4 * 3 * tower.width
    projection = 2 * tower.width * clip_config.embed_dim
    blocks = _tower(1 + clip_config.patches, tower.width, tower.mlp_width, tower.layers)
    assert product_flops(traced.jaxpr) == 2 * (embedding + blocks + projection)


def test_a_gradient_and_a_rematerialised_gradient():
    def loss(w, x):
        return jnp.sum((x @ w) ** 2)

    w, x = jnp.ones((8, 4)), jnp.ones((3, 8))
    product = 2 * 3 * 8 * 4
    assert product_flops(jax.make_jaxpr(jax.grad(loss))(w, x)) == 2 * product  # forward, and towards w
    assert product_flops(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(w, x)) == 3 * product


def test_a_loop_of_unknown_length_is_refused():
    jaxpr = jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x))(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="while"):
        product_flops(jaxpr)
