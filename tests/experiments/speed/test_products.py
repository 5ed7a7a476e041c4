"""The products of a step, one by one."""

import jax
import jax.numpy as jnp
import pytest

from dear_jax.tpu.flops import product_flops, products
from experiments.speed.products import prepare


def test_what_is_found_is_what_is_counted_and_can_be_run():
    def function(a, b, c):
        step = jax.checkpoint(lambda x, _: (jnp.tanh(x @ b), None))
        looped, _ = jax.lax.scan(step, a, length=3)
        return jnp.einsum("bik,bjk->bij", looped[None], c)

    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 8), (8, 8), (1, 5, 8)))
    jaxpr = jax.jit(function).trace(*shapes).jaxpr
    found = products(jaxpr)
    assert {(product.left, product.right): times for product, times in found.items()} == {
        ((4, 8), (8, 8)): 3,
        ((1, 4, 8), (1, 5, 8)): 1,
    }
    assert product_flops(jaxpr) == sum(times * product.flops for product, times in found.items())
    assert product_flops(jaxpr) == pytest.approx(3 * 2 * 4 * 8 * 8 + 2 * 4 * 5 * 8)
    for product in found:
        assert prepare(product)() > 0
