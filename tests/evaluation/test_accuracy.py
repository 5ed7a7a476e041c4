"""The evaluation counts every image once, on any number of devices, whatever divides evenly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from dear_jax.clip.split import Frozen, Split
from dear_jax.data import pipeline
from dear_jax.data.class_set import ClassSet
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.evaluation import metrics
from dear_jax.evaluation.accuracy import Evaluator
from dear_jax.methods.adapter_file import Adapters
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import DeAR, Settings, Start

pytestmark = pytest.mark.usefixtures("compilation_cache")
ATTRIBUTES = ("color", "shape")
SEEDS, VARIANTS, IMAGES = 2, 3, 23
NAMES = ("one", "two", "three", "four", "five")
RULES = ("learned", "class_only", "equal", 0.2)


@pytest.fixture(scope="module")
def method(clip_config):
    return DeAR(Split(clip_config, 2, 2), ATTRIBUTES, text_count=2)


@pytest.fixture(scope="module")
def adapters(method, clip_params):
    config = method.split.config

    def adapter(seed):
        classes = jnp.zeros((len(NAMES), config.embed_dim))
        return method.init(jax.random.key(seed), clip_params, classes, Start(init_std=0.5))

    def settings(seed):
        roles = patterns.plain_roles("random", 2, config.vision.heads, ATTRIBUTES, seed)
        return Settings(mask.build(roles, ATTRIBUTES, 1 + config.patches), *np.float32([0.9, 1, 0.1]))

    runs = jax.tree.map(lambda *leaves: np.stack(leaves), *map(adapter, range(SEEDS * VARIANTS)))
    runs = jax.tree.map(lambda leaf: leaf.reshape(SEEDS, VARIANTS, *leaf.shape[1:]), runs)
    return Adapters(
        method, ("a", "b", "c"), runs, jax.tree.map(lambda *leaves: np.stack(leaves), *map(settings, range(VARIANTS)))
    )


@pytest.fixture(scope="module")
def classes(clip_config):
    generator = np.random.default_rng(0)
    ids = np.zeros((len(NAMES), 9), np.int32)
    for row, length in zip(ids, (5, 9, 6, 5, 7), strict=True):
        row[:length] = generator.integers(10, 48, length)
        row[:2], row[length - 1] = (48, 7), 49
    size = clip_config.image_size
    images = generator.integers(0, 256, (IMAGES, size, size, 3), np.uint8)
    split = ImageSplit(generator.integers(0, len(NAMES), IMAGES), images.__getitem__)
    return ClassSet(NAMES, "numbers", "{}", ("{}",), NAMES, lambda template: ids, split)


def make_evaluator(method, adapters, params, devices, batch_size):
    mesh = Mesh(np.asarray(jax.devices()[:devices]).reshape(1, -1), ("run", "data"))
    return Evaluator(method.split, params, [adapters], mesh, batch_size, RULES)


@pytest.fixture(scope="module")
def one_by_one(method, adapters, clip_params):
    return make_evaluator(method, adapters, clip_params, 1, 1)


@pytest.mark.parametrize(("devices", "batch_size"), [(1, 12), (3, 10), (4, 6), pytest.param(2, 100, id="one batch")])
def test_any_number_of_devices_counts_the_same(
    method, adapters, clip_params, classes, one_by_one, devices, batch_size
):
    """Neither 23 images nor 5 classes divide by 2, 3 or 4; batches are filled up to a multiple."""
    expected = one_by_one(classes)
    found = make_evaluator(method, adapters, clip_params, devices, batch_size)(classes)
    assert found.adapted["accuracy"].shape == (len(RULES), SEEDS, VARIANTS)
    assert len(np.unique(expected.adapted["accuracy"])) > 3
    np.testing.assert_array_equal(found.adapted["accuracy"], expected.adapted["accuracy"])
    assert found.zero_shot == expected.zero_shot
    np.testing.assert_array_equal(found.under("equal").adapted["accuracy"], expected.adapted["accuracy"][[2]])
    assert list(found.adapted) == ["accuracy", "macro_f1", "calibration_error"]
    for name, values in expected.adapted.items():
        np.testing.assert_array_equal(found.adapted[name], values, err_msg=name)
    of_rule = found.under("equal").predictions
    assert of_rule.adapted.labels.shape == of_rule.adapted.probabilities.shape == (1, SEEDS, VARIANTS, IMAGES)
    assert of_rule.paths.labels.shape == (SEEDS, len(method.paths), IMAGES)
    assert (found.predictions.path_names, method.paths) == (method.paths, ("class", *ATTRIBUTES))


def test_without_adapters_zero_shot_clip_is_measured_alone(method, clip_params, classes, one_by_one):
    mesh = Mesh(np.asarray(jax.devices()[:1]).reshape(1, -1), ("run", "data"))
    scores = Evaluator(method.split, clip_params, [], mesh, 12)(classes)
    assert scores.zero_shot == one_by_one(classes).zero_shot
    assert scores.predictions.adapted.labels.shape == (1, 0, 0, IMAGES)
    assert scores.predictions.paths.labels.shape == (0, 0, IMAGES)


def test_every_metric_of_the_table_is_computed_of_the_same_predictions(one_by_one, classes, monkeypatch):
    def errors(predicted, labels, count):
        assert count == len(NAMES)
        return np.sum(predicted != labels, axis=-1)

    monkeypatch.setitem(metrics.METRICS, "errors", errors)
    scores = one_by_one(classes)
    right = scores.adapted["accuracy"] * IMAGES / 100
    np.testing.assert_allclose(scores.adapted["errors"], IMAGES - right, rtol=1e-9)
    assert scores.zero_shot["errors"] == pytest.approx(IMAGES - scores.zero_shot["accuracy"] * IMAGES / 100)
    np.testing.assert_array_equal(scores.under("equal").adapted["errors"], scores.adapted["errors"][[2]])


def test_class_sets_with_groups_have_the_metrics_of_groups(one_by_one, classes):
    groups = np.where(np.arange(IMAGES) < 12, "sand", "snow")
    test = dataclasses.replace(classes.test, attributes={"background": groups}, grouped_by="background")
    scores = one_by_one(dataclasses.replace(classes, test=test))
    assert list(scores.zero_shot) == list(scores.adapted)
    assert list(scores.zero_shot)[-2:] == ["worst_group", "group_mean"]
    assert scores.adapted["worst_group"].shape == (len(RULES), SEEDS, VARIANTS)
    predicted = one_by_one.predict(classes)
    members = {(label, group) for label, group in zip(classes.test.labels, groups, strict=True)}
    of_groups = [
        100 * np.mean(predicted.zero_shot.labels[(classes.test.labels == label) & (groups == group)] == label)
        for label, group in members
    ]
    assert scores.zero_shot["worst_group"] == pytest.approx(min(of_groups))
    assert scores.zero_shot["group_mean"] == pytest.approx(np.mean(of_groups))
    np.testing.assert_array_equal(scores.adapted["accuracy"], one_by_one(classes).adapted["accuracy"])


def test_predictions_are_those_of_the_formula_and_leave_out_what_is_not_valid(
    method, adapters, clip_params, classes, one_by_one, monkeypatch
):
    images = np.stack([classes.test.load(index) for index in range(8)])
    adapter = jax.tree.map(lambda leaf: jnp.asarray(leaf[0, 0]), adapters.adapter)
    settings = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), adapters.settings)
    prompts = method.split.encode_prompts(clip_params, classes.token_ids)
    seen = jax.jit(method.split.look)(clip_params, images)
    of_classes = jax.jit(method.classes)(adapter, settings, Frozen(clip_params, prompts))
    features = jax.jit(method.features)(adapter, settings, clip_params, seen)
    paths = np.einsum("bid,cd->bic", np.asarray(features), np.asarray(of_classes))
    zero_shot = np.argmax(seen.features @ prompts.features.T, axis=1)
    alphas = {
        "learned": np.asarray(jax.nn.softmax(adapter["fusion"])),
        "class_only": np.array([1, 0, 0]),
        "equal": np.full(3, 1 / 3),
        0.2: np.array([0.2, 0.4, 0.4]),
    }
    predicted = np.stack([np.argmax(np.einsum("i,bic->bc", alpha, paths), axis=1) for alpha in alphas.values()])

    assert tuple(alphas) == RULES
    valid = np.arange(len(images)) != 2
    batches = [{"image": images[[i]], "valid": valid[[i]]} for i in range(len(images))]
    monkeypatch.setattr(pipeline, "eval_batches", lambda *arguments, **options: iter(batches))

    def labelled(labels):
        return dataclasses.replace(classes, test=ImageSplit(labels[valid], images[valid].__getitem__))

    for f in range(len(alphas)):
        for label, expected in ((predicted[f], 7), ((predicted[f] + 1) % len(NAMES), 0)):
            found = one_by_one(labelled(label))
            assert found.adapted["accuracy"].shape == (4, SEEDS, VARIANTS)
            assert round(found.adapted["accuracy"][f, 0, 0] * 7 / 100) == expected
            assert round(found.zero_shot["accuracy"] * 7 / 100) == np.sum((zero_shot == label) & valid)
    found = one_by_one.predict(labelled(zero_shot))
    np.testing.assert_array_equal(found.adapted.labels[:, 0, 0], predicted[:, valid])
    np.testing.assert_array_equal(found.zero_shot.labels, found.labels)

    scale = np.exp(clip_params["logit_scale"])
    fused = np.stack([np.einsum("i,bic->bc", alpha, paths) for alpha in alphas.values()])
    plain = np.asarray(seen.features @ prompts.features.T)
    for said, cosines in (
        (jax.tree.map(lambda values: values[:, 0, 0], found.adapted), fused[:, valid]),
        (jax.tree.map(lambda values: values[0], found.paths), np.moveaxis(paths, 1, 0)[:, valid]),
        (found.zero_shot, plain[valid]),
    ):
        probabilities = jax.nn.softmax(scale * cosines, axis=-1)
        np.testing.assert_array_equal(said.labels, probabilities.argmax(axis=-1))
        np.testing.assert_allclose(said.probabilities, probabilities.max(axis=-1), rtol=1e-4)  # float32 products
