"""DeAR from its keys: the layers where tokens enter, and values that are refused."""

import numpy as np
import pytest

from configs import base
from dear_jax.errors import UserError
from dear_jax.roles.options import deeper_third
from dear_jax.setup import checks, recipes, values
from dear_jax.setup.methods import dear


@pytest.mark.parametrize(("layers", "first"), [(12, 9), (24, 17), (7, 5), (6, 5), (3, 3)])
def test_the_deeper_third_starts_where_the_paper_has_it(layers, first):
    assert deeper_third(layers) == first


def test_tokens_enter_before_the_deeper_third(clip_config):
    method = dear.build(dear.Options(), clip_config, np.float32)
    assert (method.split.vision_layer, method.split.text_layer) == (3, 3)


def read_and_build(changes, clip_config):
    """As a job does it: keys are checked, then the method is built on the backbone."""
    config = values.set_all(base.get_config(), {f"dear.{key}": value for key, value in changes.items()})
    config = recipes.resolve(config)
    checks.check(config, trains=True)
    return dear.build(values.read(dear.Options, config.dear), clip_config, np.float32)


def test_other_layers(clip_config):
    split = read_and_build({"tokens.vision_layer": 2, "tokens.text_layer": 1}, clip_config).split
    assert (split.vision_layer, split.text_layer) == (2, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens.vision_layer": 4}, "config.dear.tokens.vision_layer is 4: expected 1 to 3"),
        ({"tokens.text_layer": 0}, "config.dear.tokens.text_layer is 0: expected 1 to 3"),
        ({"tokens.attributes": ()}, "expected one or more different names"),
        ({"tokens.attributes": ("color", "color")}, "expected one or more different names"),
        ({"tokens.text_count": 0}, "config.dear.tokens.text_count is 0"),
        ({"mask.pattern": "rolls"}, "config.dear.mask.pattern is 'rolls', expected one of roles, permuted, layer_wise"),
        ({"fusion.class_start": 1.0}, "config.dear.fusion.class_start is 1.0"),
        ({"tokens.init_std": -1.0}, "config.dear.tokens.init_std is -1.0"),
        (
            {"tokens.projection_init": "zeros"},
            "config.dear.tokens.projection_init is 'zeros', expected one of copy, normal",
        ),
        ({"tokens.init_seed": 2**32}, "config.dear.tokens.init_seed is 4294967296"),
    ],
)
def test_values_out_of_range_are_refused(change, message, clip_config):
    with pytest.raises(UserError, match=message):
        read_and_build(change, clip_config)
