"""A fresh adapter: shapes, dtypes, and where tokens, projections and fusion start."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.split import Split
from dear_jax.methods.dear.model import DeAR, Start, class_share_loss


@pytest.fixture(scope="module")
def method(clip_config) -> DeAR:
    return DeAR(Split(clip_config, 3, 3), ("color", "shape"), text_count=3)


def start_adapter(method, params, seed, start):
    classes = jnp.zeros((3, method.split.config.embed_dim))
    return method.init(jax.random.key(seed), params, classes, start)


def test_a_fresh_adapter(method, clip_params):
    adapter = start_adapter(method, clip_params, 0, Start())
    shapes = {name: leaf.shape for name, leaf in adapter.items()}
    assert shapes == {
        "vision_tokens": (2, 32),
        "text_tokens": (3, 24),
        "attribute_projection": (1, 32, 16),
        "fusion": (3,),
    }
    assert {leaf.dtype for leaf in adapter.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(adapter["attribute_projection"][0], clip_params["visual_projection"]["kernel"])
    assert float(np.std(adapter["vision_tokens"])) == pytest.approx(0.02, rel=0.3)
    other = start_adapter(method, clip_params, 1, Start())
    assert (np.asarray(other["vision_tokens"]) != np.asarray(adapter["vision_tokens"])).all()


def test_projections_of_ones_own(method, clip_params):
    method = dataclasses.replace(method, shared_projection=False)
    adapter = start_adapter(method, clip_params, 0, Start(projection_init="normal"))
    assert adapter["attribute_projection"].shape == (2, 32, 16)
    assert float(np.std(adapter["attribute_projection"])) == pytest.approx(32**-0.5, rel=0.1)


def test_a_start_of_its_own_seed_does_not_depend_on_the_run(method, clip_params):
    first, second, plain = (
        start_adapter(method, clip_params, seed, start)
        for seed, start in ((1, Start(seed=3)), (2, Start(seed=3)), (3, Start()))
    )
    for other in (second, plain):
        jax.tree.map(np.testing.assert_array_equal, first, other)


def start_fusion(method, params, count, class_start):
    method = dataclasses.replace(method, attributes=tuple(f"attribute {k}" for k in range(count)))
    adapter = start_adapter(method, params, 0, Start(class_start=class_start))
    return adapter["fusion"], method.weights(adapter, None)


@pytest.mark.parametrize(("count", "class_start"), [(5, 0.5), (1, 0.5), (5, 0.9)])
def test_fusion_starts_where_it_is_told(method, clip_params, count, class_start):
    theta, alpha = start_fusion(method, clip_params, count, class_start)
    np.testing.assert_allclose(alpha, [class_start] + [(1 - class_start) / count] * count, rtol=1e-6)
    assert float(class_share_loss(theta)) == pytest.approx(-math.log(class_start), rel=1e-5)


def test_the_default_start_is_log_k(method, clip_params):
    theta, _ = start_fusion(method, clip_params, 5, 0.5)
    np.testing.assert_allclose(theta, [math.log(5), 0, 0, 0, 0, 0], rtol=1e-6)
