"""The adapter's structure: defaults, ranges, shapes of a fresh adapter."""

import jax
import numpy as np
import pytest

from dear_jax.errors import UserError
from dear_jax.methods.dear import tokens

DEFAULTS = dict(attributes=("color", "shape"), text_count=3, vision_layer=None, text_layer=None)


@pytest.mark.parametrize(("layers", "first"), [(12, 9), (24, 17), (7, 5), (6, 5), (3, 3)])
def test_the_deeper_third_starts_where_the_paper_has_it(layers, first):
    assert tokens.deeper_third(layers) == first


def test_a_fresh_adapter(clip_config, clip_params):
    structure = tokens.make_structure(clip_config, **DEFAULTS)
    adapter = tokens.initialize(jax.random.key(0), clip_params, clip_config, structure)
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
    other = tokens.initialize(jax.random.key(1), clip_params, clip_config, structure)
    assert (np.asarray(other["vision_tokens"]) != np.asarray(adapter["vision_tokens"])).all()


def test_projections_of_ones_own(clip_config, clip_params):
    structure = tokens.make_structure(clip_config, **DEFAULTS, shared_projection=False)
    start = tokens.Start(projection_init="normal")
    adapter = tokens.initialize(jax.random.key(0), clip_params, clip_config, structure, start)
    assert adapter["attribute_projection"].shape == (2, 32, 16)
    assert float(np.std(adapter["attribute_projection"])) == pytest.approx(32**-0.5, rel=0.1)


def test_a_start_of_its_own_seed_does_not_depend_on_the_run(clip_config, clip_params):
    structure = tokens.make_structure(clip_config, **DEFAULTS)
    first, second, plain = (
        tokens.initialize(jax.random.key(seed), clip_params, clip_config, structure, start)
        for seed, start in ((1, tokens.Start(seed=3)), (2, tokens.Start(seed=3)), (3, None))
    )
    for other in (second, plain):
        jax.tree.map(np.testing.assert_array_equal, first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_layer": 4}, "config.tokens.vision_layer is 4: expected 1 to 3"),
        ({"text_layer": 0}, "config.tokens.text_layer is 0: expected 1 to 3"),
        ({"attributes": ()}, "expected one or more different names"),
        ({"attributes": ("color", "color")}, "expected one or more different names"),
        ({"text_count": 0}, "config.tokens.text_count is 0"),
    ],
)
def test_values_out_of_range_are_refused(change, message, clip_config):
    with pytest.raises(UserError, match=message):
        tokens.make_structure(clip_config, **(DEFAULTS | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_start": 1.0}, "config.fusion.class_start is 1.0"),
        ({"init_std": -1.0}, "config.tokens.init_std is -1.0"),
        ({"projection_init": "zeros"}, "config.tokens.projection_init is 'zeros': expected one of copy, normal"),
        ({"seed": 2**32}, "config.tokens.init_seed is 4294967296"),
    ],
)
def test_starts_out_of_range_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        tokens.Start(**change)
