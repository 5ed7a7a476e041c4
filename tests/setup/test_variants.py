"""From config.variants to configs: presets, one's own, and what is refused."""

import pytest

from configs import base
from dear_jax.errors import UserError
from dear_jax.setup import variants as setup_variants


def variants(text: str) -> dict:
    config = base.get_config()
    config.variants = text
    return setup_variants.variant_configs(config)


def test_a_plain_run_has_one_variant_and_its_own_config():
    config = base.get_config()
    assert setup_variants.variant_configs(config) == {"default": config}


def test_ones_own():
    found = variants("strong: loss.reg=5 | short: mask.set=5.*=mixed,6.0=other; config.tokens.init_seed=7 | plain:")
    assert list(found) == ["strong", "short", "plain"]
    assert found["strong"].loss.reg == 5.0
    assert (found["short"].mask.set, found["short"].tokens.init_seed) == ("5.*=mixed,6.0=other", 7)
    assert found["short"].loss.reg == found["plain"].loss.reg == 1.0
    assert found["strong"].mask.set == ""


@pytest.mark.parametrize(("preset", "count"), [("mask_patterns", 12), ("losses", 4), ("beta", 5)])
def test_presets_set_known_keys_to_values_of_their_type(preset, count):
    found = variants(preset)
    assert len(found) == count
    allowed = {*setup_variants.ARRAYS, *setup_variants.STRUCTURAL}
    assert {key for values in setup_variants.PRESETS[preset].values() for key in values} <= allowed
    assert len({config.to_json_best_effort() for config in found.values()}) == count


def test_every_key_that_variants_may_set_is_one_of_the_config():
    flat = setup_variants.config_values.flatten(base.get_config())
    assert {*setup_variants.ARRAYS, *setup_variants.STRUCTURAL} <= flat.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mask_pattern", "'mask_pattern' is no preset .* Did you mean mask_patterns?"),
        ("a: loss.reg=0 | a: loss.reg=1", "the name 'a' stands for two variants"),
        ("a: data.shots=4", "a: data.shots is common to all variants of a run; .* nearest is"),
        ("a: loss.regg=4", "a: loss.regg is no key of the config; .* The nearest is loss.reg[.]"),
        ("a: loss.reg", "'loss.reg' is not of the form KEY=VALUE"),
        ("a: loss.reg=much", "a: loss.reg: expected float, found 'much'"),
        ("zero_shot: loss.reg=0", "'zero_shot' is taken"),
        (": loss.reg=0", "no preset"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        variants(text)
