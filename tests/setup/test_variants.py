"""From config.variants to configs: presets, one's own, and what is refused."""

import pytest

from configs import base
from dear_jax.errors import UserError
from dear_jax.setup import methods, recipes, values
from dear_jax.setup import variants as setup_variants
from dear_jax.setup.methods import METHODS


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
    strong, short, plain = (config.dear for config in found.values())
    assert strong.loss.reg == 5.0
    assert (short.mask.set, short.tokens.init_seed) == ("5.*=mixed,6.0=other", 7)
    assert short.loss.reg == plain.loss.reg == 1.0
    assert strong.mask.set == ""


def test_equal_defaults_of_other_types_are_told_apart():
    """absl takes 1.0 and True for one."""
    a, b = (config.dear for config in variants("a: tokens.shared_projection=false | b: loss.reg=5").values())
    assert (a.tokens.shared_projection, b.loss.reg) == (False, 5.0)


def test_keys_of_the_method_go_by_two_names_and_become_its_options():
    config = base.get_config()
    config.variants = "a: dear.loss.reg=5 | b: config.dear.tokens.beta=0.5; optimizer.learning_rate=0.1 | c: loss.reg=5"
    a, b, c = setup_variants.read(recipes.resolve(config))
    assert [variant.name for variant in (a, b, c)] == ["a", "b", "c"]
    assert (a.method, a.options.loss.reg, a.options.tokens.beta) == ("dear", 5.0, 0.9)
    assert (b.options.loss.reg, b.options.tokens.beta) == (1.0, 0.5)
    assert (a.rates, b.rates) == ((1e-3, 1e-5, 1.0, 5e-4), (0.1, 1e-5, 1.0, 5e-4))
    assert c.options == a.options


@pytest.mark.parametrize(("preset", "count"), [("mask_patterns", 12), ("losses", 4), ("beta", 5)])
def test_presets_set_known_keys_to_values_of_their_type(preset, count):
    found, method = variants(preset), methods.find("dear")
    assert len(found) == count
    allowed = {*method.ARRAYS, *method.STRUCTURAL}
    assert {key for changes in method.PRESETS[preset].values() for key in changes} <= allowed
    assert len({config.to_json_best_effort() for config in found.values()}) == count


@pytest.mark.parametrize("name", METHODS)
def test_every_key_that_variants_may_set_is_one_of_the_config(name):
    method, flat = methods.find(name), values.flatten(base.get_config())
    assert {f"{name}.{key}" for key in (*method.ARRAYS, *method.STRUCTURAL)} <= flat.keys()
    assert {f"optimizer.{rate}" for rate in setup_variants.RATES} <= flat.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mask_pattern", "'mask_pattern' is no preset .* Did you mean mask_patterns?"),
        ("a: loss.reg=0 | a: loss.reg=1", "the name 'a' stands for two variants"),
        ("a: data.shots=4", "a: data.shots is common to all variants of a run; .* nearest is"),
        ("a: loss.regg=4", "a: loss.regg is no key of the config; .* The nearest is loss.reg[.]"),
        ("a: loss.reg", "'loss.reg' is no KEY=VALUE"),
        ("a: loss.reg=much", "a: loss.reg: expected float, found 'much'"),
        ("zero_shot: loss.reg=0", "'zero_shot' is taken"),
        (": loss.reg=0", "no preset"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        variants(text)
