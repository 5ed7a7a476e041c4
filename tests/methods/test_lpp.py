"""LP++: the numbers of the golden file, and what the steps are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.split import Prompts, plain_split
from dear_jax.methods import lpp
from dear_jax.methods.lpp import LPP
from dear_jax.setup.methods import lpp as row
from tests.methods import golden, supports


@pytest.fixture(scope="module")
def method(clip_config):
    return LPP(plain_split(clip_config))


def official(dtype):
    """The golden file's descent of 30 steps from b = 0, without validation images."""
    file = golden.read("cache_lpp")
    features, text, labels = (np.asarray(file[name]) for name in ("train", "text", "labels"))
    rates = lpp.rates_of(features, text, labels)
    features, text = jnp.asarray(features, dtype), jnp.asarray(text, dtype)
    labels = jnp.asarray(labels, jnp.int32)
    fresh = {
        "weights": jax.nn.one_hot(labels, 3, dtype=dtype).T @ features,
        "bias": jnp.zeros(3, dtype),
        "blend": jnp.full(3, rates[2], dtype),
    }
    none = features[:0], labels[:0]
    of_dtype = lpp.Rates(*(jnp.asarray(rate, dtype) for rate in rates))
    found, values = lpp.descend(fresh, of_dtype, (features, labels), none, text, jnp.asarray(1, dtype), 30)
    return file, rates, found, values


@pytest.mark.slow
def test_rates_and_losses_are_the_golden_ones():
    file, rates, found, values = official(jnp.float32)
    np.testing.assert_allclose(rates, [5.577118, 3.805522, 53.299355], rtol=1e-6)
    expected = [0.351667, 0.215210, 0.032089, 0.030421, 0.005974, 0.002888]
    np.testing.assert_allclose(values[jnp.array([0, 1, 9, 10, 19, 29])], expected, atol=2e-6)
    # Float32 over 30 steps; weights are up to 7.6, blending weights up to 54.
    np.testing.assert_allclose(values, file["losses"], atol=2e-6)
    for leaf, name in (("weights", "weight"), ("bias", "bias"), ("blend", "alpha")):
        np.testing.assert_allclose(found.learned[leaf], file[name], atol=1e-5)
    assert found.step == 30


@pytest.mark.slow
def test_in_float64_they_are_the_golden_ones_to_rounding():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        file, _, found, values = official(jnp.float64)
        np.testing.assert_allclose(values, file["losses"], atol=1e-12)
        for leaf, name in (("weights", "weight"), ("bias", "bias"), ("blend", "alpha")):
            np.testing.assert_allclose(found.learned[leaf], file[name], atol=1e-12)


def start_of(method, support, seed=0):
    text = jnp.asarray(support.text)
    return method.init(jax.random.key(seed), supports.PARAMS, Prompts(None, None, None, text, None), None)


def fit(method, support, **keys):
    settings = supports.settings_of(row, **keys)
    return method.fit(start_of(method, support), (), settings, supports.PARAMS, support)


def test_logits_have_no_scale(method):
    support = supports.make()
    learned, _ = fit(method, support)
    images = supports.unit(support.val_features)
    weights, bias, blend = (np.asarray(learned[name]) for name in ("weights", "bias", "blend"))
    expected = images @ weights.T + bias + blend * (images @ support.text.T)
    found = supports.logits(method, learned, supports.settings_of(row), support)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_loss_falls(method):
    support = supports.make()
    losses = [fit(method.__class__(method.split, steps), support)[1]["loss"] for steps in (1, 10, 100)]
    assert losses[0] > losses[1] > losses[2]


def test_the_bias_alone_depends_on_the_seed(method):
    support = supports.make()
    one, other = (start_of(method, support, seed) for seed in (1, 2))
    assert np.abs(one["bias"]).max() <= support.text.shape[1] ** -0.5
    assert (np.asarray(one["bias"]) != np.asarray(other["bias"])).all()


def test_of_several_best_steps_the_last_is_taken(method):
    """As many validation images as they are, step by step by a descent of its own."""
    support = supports.make(noise=2.0)
    right = [
        (100 * np.mean(predicted.argmax(axis=1) == support.val_labels), step)
        for step in range(1, 11)
        for last, _ in [fit(LPP(method.split, step), support, choose=False)]
        for predicted in [supports.logits(method, last, supports.settings_of(row), support)]
    ]
    best, step = max(right)
    _, notes = fit(LPP(method.split, 10), support)
    assert (notes["validation_accuracy"], notes["step"]) == (pytest.approx(best), step)


def test_without_validation_images_it_is_the_last(method):
    support = supports.make()
    learned, notes = fit(method, supports.without_validation(support))
    assert (notes["step"], "validation_accuracy" in notes) == (300, False)
    expected, _ = fit(method, support, choose=False)
    jax.tree.map(np.testing.assert_array_equal, learned, expected)


def test_the_blending_weights_stay_where_they_are_told_to(method):
    support = supports.make()
    start = lpp.rates_of(supports.unit(support.features), support.text, support.labels)[2]
    fixed, _ = fit(method, support, blend_rate=0.0)
    np.testing.assert_allclose(fixed["blend"], start, rtol=1e-5)
    none, _ = fit(method, support, blend_rate=0.0, blend=0.0)
    np.testing.assert_array_equal(none["blend"], 0)
    assert np.ptp(fit(method, support, choose=False)[0]["blend"]) > 0


def test_classes_may_have_different_numbers_of_images(method):
    support = supports.make()
    short = support._replace(features=support.features[:-3], labels=support.labels[:-3])
    assert fit(method, short)[0]["weights"].shape == (supports.CLASSES, supports.WIDTH)


def test_as_many_numbers_as_published_are_learned():
    assert golden.count_parameters("lpp", "dtd", "few_shot", classes=47) == 47 * 512 + 2 * 47


@pytest.mark.parametrize(("key", "value"), [("iterations", 0), ("rate", 0.0), ("blend_rate", -1.0), ("blend", -1.0)])
def test_values_out_of_their_range_are_named(key, value):
    assert list(row.problems(row.Options(**{key: value}))) == [key]
    assert row.recipe("few_shot", "dtd", 1) == {"train.epochs": 0}
