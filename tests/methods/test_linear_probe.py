"""The linear probe is scikit-learn's regression on the same features, and chooses C as CoOp's `lpclip` does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from dear_jax.clip.split import Frozen, Prompts, plain_split
from dear_jax.errors import UserError
from dear_jax.methods import linear_probe
from dear_jax.methods.linear_probe import LinearProbe
from dear_jax.setup.methods import linear_probe as row
from tests.methods import golden, supports


@pytest.fixture(scope="module")
def method(clip_config):
    return LinearProbe(plain_split(clip_config))


def fit(method, support, **keys):
    return method.fit({}, (), supports.settings_of(row, **keys), supports.PARAMS, support)


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_scikit_learns_regression_on_the_same_images(method, clip_config, clip_params, classes):
    """From pixels on: probabilities of the method's logits against those of the regression on plain features."""
    params = jax.device_put(clip_params)
    size = clip_config.image_size
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (12, size, size, 3), np.uint8))
    seen = jax.jit(method.split.look)(params, images)
    features = np.asarray(method.split.image_features(params, seen.prefix))
    np.testing.assert_allclose(supports.unit(features), seen.features, atol=1e-6)
    labels = np.arange(12, dtype=np.int32) % classes
    text = supports.make().text[:classes]
    support = supports.make()._replace(features=features, labels=labels, text=text)
    learned, notes = fit(method, support, inverse_l2=10.0)
    assert notes["inverse_l2"] == 10
    learned = {name: jnp.asarray(leaf) for name, leaf in learned.items()}
    assert learned["weights"].shape == (classes, clip_config.embed_dim)
    frozen = Frozen(params, Prompts(None, None, None, jnp.asarray(text), None))
    read = method.classes(learned, None, frozen)
    found = jax.nn.softmax(method.logits(learned, None, params, read, seen)[:, 0])
    model = LogisticRegression(C=10.0, max_iter=1000).fit(features.astype(np.float64), labels)
    np.testing.assert_allclose(found, model.predict_proba(features.astype(np.float64)), atol=1e-5)


def lpclip(correct):
    """Its search as it stands there."""
    search = [1e6, 1e4, 1e2, 1, 1e-2, 1e-4, 1e-6]
    peak = search[int(np.argmax([correct(c) for c in search]))]
    left, right = 1e-1 * peak, 1e1 * peak
    for _ in range(8):
        if correct(left) < correct(right):
            chosen = right
            left, right = 0.5 * (np.log10(right) + np.log10(left)), np.log10(right)
        else:
            chosen = left
            right, left = 0.5 * (np.log10(right) + np.log10(left)), np.log10(left)
        left, right = np.power(10, left), np.power(10, right)
    return chosen


@pytest.mark.parametrize("best", [-7.5, -2.9, -1.03, 0.3, 0.31, 2.01, 9.0])
@pytest.mark.parametrize("plateau", [0.0, 0.7])
def test_the_search_is_that_of_lpclip(best, plateau):
    def right_at(exponent):
        return -int(100 * max(0.0, abs(exponent - best) - plateau))

    found = 10 ** linear_probe.sweep(right_at)
    assert found == pytest.approx(lpclip(lambda c: right_at(np.log10(c).round(9))), rel=1e-6)


def test_c_is_chosen_on_validation_images(method):
    support = supports.make(noise=2.0)
    _, notes = fit(method, support)

    def correct(inverse_l2):
        model = LogisticRegression(C=inverse_l2, max_iter=1000).fit(support.features.astype(np.float64), support.labels)
        return np.sum(model.predict(support.val_features) == support.val_labels)

    assert notes["inverse_l2"] == pytest.approx(lpclip(correct), rel=1e-6)
    assert notes["validation_accuracy"] == pytest.approx(100 * correct(notes["inverse_l2"]) / len(support.val_labels))


def test_without_validation_images_c_is_that_of_openais_example(method):
    assert fit(method, supports.without_validation(supports.make()))[1] == {"inverse_l2": 0.316}


def test_one_class_is_refused(method):
    support = supports.make()
    with pytest.raises(UserError, match="two classes or more"):
        fit(method, support._replace(text=support.text[:1]))


def test_as_many_numbers_as_published_are_learned():
    assert golden.count_parameters("linear_probe", "dtd", "few_shot", classes=47) == 47 * 512 + 47


def test_values_out_of_their_range_are_named():
    assert list(row.problems(row.Options(0.0))) == ["inverse_l2"]
    assert not row.problems(row.Options())
    assert row.recipe("few_shot", "dtd", 1) == {"train.epochs": 0}
