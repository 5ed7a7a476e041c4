"""Tip-Adapter and Tip-Adapter-F: logits, the grid and its search, what training starts from and which epoch is kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.split import Frozen, Prompts, Seen, plain_split
from dear_jax.data.templates import IMAGENET_7
from dear_jax.methods import tip_adapter as tip
from dear_jax.methods.tip_adapter import TipAdapter
from dear_jax.methods.tip_adapter_f import TipAdapterF
from dear_jax.setup.methods import tip_adapter as row
from dear_jax.setup.methods import tip_adapter_f as row_f
from tests.methods import golden, supports

PUBLISHED = {  # beta's end, alpha's end, the first alpha; of the official files
    "caltech101": (12, 5, 3),
    "dtd": (13, 13, 2),
    "eurosat": (12, 10, 2),
    "fgvc_aircraft": (30, 30, 5),
    "food101": (10, 10, 1.17),
    "imagenet": (7, 3, 1.17),
    "oxford_flowers": (50, 50, 10),
    "oxford_pets": (7, 3, 1.17),
    "stanford_cars": (20, 10, 3),
    "sun397": (12, 10, 1.17),
    "ucf101": (7, 3, 3),
}


@pytest.fixture(scope="module")
def split(clip_config):
    return plain_split(clip_config)


def fit(method, support, carried=(), adapter=None, **keys):
    settings = supports.settings_of(row, **keys)
    learned, notes = method.fit(adapter or {}, carried, settings, supports.PARAMS, support)
    return learned, notes, settings


def official_logits(features, keys, labels, text, alpha, beta):
    """As the formula stands, in float64."""
    features, keys, text = (np.asarray(rows, np.float64) for rows in (features, keys, text))
    values = np.eye(len(text))[np.asarray(labels)]
    return 100 * features @ text.T + alpha * np.exp(-beta * (1 - features @ keys.T)) @ values


@pytest.mark.slow
def test_logits_are_the_golden_ones():
    """100 f t is as large as 50, so that float32 rounds at 4e-6."""
    file = golden.read("cache_lpp")
    features, keys, text = (jnp.asarray(file[name], jnp.float32) for name in ("query", "train", "text"))
    beta = jnp.float32(file["tip_beta"])
    cache = tip.cache_logits(features, keys, jnp.asarray(file["labels"], jnp.int32), beta, len(text))
    found = 100 * features @ text.T + jnp.float32(file["tip_alpha"]) * cache
    np.testing.assert_allclose(found[0], [27.5070, 27.8979, 23.3207], atol=1e-4)
    np.testing.assert_allclose(found, file["tip_logits"], atol=2e-5)


def test_logits_are_those_of_the_formula(split):
    support = supports.make()
    learned, _, settings = fit(TipAdapter(split), support, search=False, alpha=1.3, beta=2.0)
    keys = supports.unit(support.features)
    expected = official_logits(
        supports.unit(support.val_features), keys, support.labels, support.text, 1.3, 2.0
    )
    found = supports.logits(TipAdapter(split), learned, settings, support)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_without_the_cache_it_is_zero_shot_clip(split):
    support = supports.make()
    learned, _, settings = fit(TipAdapter(split), support, search=False, alpha=0.0)
    expected = 100 * supports.unit(support.val_features) @ support.text.T
    np.testing.assert_allclose(supports.logits(TipAdapter(split), learned, settings, support), expected, atol=1e-4)


def test_the_first_of_the_best_alphas_and_betas_is_taken(split, monkeypatch):
    """Against the loops of the official code, on a coarser grid."""
    monkeypatch.setattr(tip, "STEPS", (10, 5))
    support = supports.make(noise=2.0)
    images = supports.unit(support.val_features)
    best, expected = 0, None
    for i in range(10):
        for j in range(5):
            beta, alpha = i * (7 - 0.1) / 10 + 0.1, j * (3 - 0.1) / 5 + 0.1
            keys = supports.unit(support.features)
            logits = official_logits(images, keys, support.labels, support.text, alpha, beta)
            correct = np.sum(logits.argmax(axis=1) == support.val_labels)
            if correct > best:
                best, expected = correct, (alpha, beta)
    learned, notes, settings = fit(TipAdapter(split), support)
    np.testing.assert_allclose((learned["alpha"], learned["beta"]), expected, rtol=1e-6)
    assert notes["validation_accuracy"] == pytest.approx(100 * best / len(images))
    found = supports.logits(TipAdapter(split), learned, settings, support)
    assert np.sum(found.argmax(axis=1) == support.val_labels) == best


def test_the_grid_is_the_published_one():
    assert tip.STEPS == (200, 20)
    betas = tip.grid(jnp.float32(12), 200)
    np.testing.assert_allclose(betas[:2], [0.1, 0.1 + 11.9 / 200], rtol=1e-6)
    np.testing.assert_allclose(betas[-1], 12 - 11.9 / 200, rtol=1e-6)


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_each_data_set_has_its_grid(dataset):
    for entry, name in ((row, "tip_adapter"), (row_f, "tip_adapter_f")):
        recipe = entry.recipe("few_shot", dataset, 16)
        keys = [recipe[f"{name}.{key}"] for key in ("beta_end", "alpha_end", "alpha")]
        assert tuple(keys) == PUBLISHED[dataset]
    assert row.recipe("few_shot", dataset, 16)["train.epochs"] == 0
    assert row_f.recipe("few_shot", dataset, 16)["train.epochs"] == (100 if dataset == "eurosat" else 20)


def test_the_recipe_of_the_trained_keys():
    recipe = row_f.recipe("few_shot", "dtd", 16)
    names = ("epsilon", "weight_decay", "schedule", "warmup_epochs")
    assert [recipe[f"optimizer.{name}"] for name in names] == [1e-4, 1e-2, "step_cosine", 0]
    assert recipe["train.batch_size"] == 256
    assert row_f.Options().beta == 1
    assert row_f.Options().passes == 10


def test_imagenet_has_seven_templates_unless_another_is_asked_for(split):
    method = TipAdapter(split)
    assert method.targets("imagenet", ("a photo of a {}.",)).templates == IMAGENET_7
    assert len(set(IMAGENET_7)) == 7
    assert method.targets("imagenet", ("a {}.",)).templates == ("a {}.",)
    assert method.targets("dtd", ("{} texture.",)) == ((("{} texture."),), True)


def test_trained_keys_start_as_the_cache(split):
    support = supports.make()
    method = TipAdapterF(split)
    adapter, carried = method.meet({}, (), support)
    learned, notes, _ = fit(method, support, carried, adapter, search=False)
    expected, _, _ = fit(TipAdapter(split), support, search=False)
    jax.tree.map(np.testing.assert_array_equal, learned, expected)
    assert notes["epoch"] == 0


def test_the_loss_is_the_cross_entropy_of_the_logits(split):
    support = supports.make()
    method, settings = TipAdapterF(split), supports.settings_of(row)
    adapter, carried = method.meet({}, (), support)
    features = jnp.asarray(supports.unit(support.val_features))
    frozen = Frozen(supports.PARAMS, Prompts(None, None, None, jnp.asarray(support.text), None))
    seen = Seen(features[:, None], features)
    loss, parts = method.loss(adapter, settings, frozen, seen, jnp.asarray(support.val_labels), carried)
    keys = supports.unit(support.features)
    logits = official_logits(features, keys, support.labels, support.text, 1.17, 1.0)
    logits -= logits.max(axis=1, keepdims=True)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), support.val_labels]
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(parts["accuracy"], np.mean(logits.argmax(axis=1) == support.val_labels))


def reviewed(method, support, *epochs):
    """What is carried after epochs with these keys."""
    settings = supports.settings_of(row)
    _, carried = method.meet({}, (), support)
    for keys in epochs:
        carried = method.review({"keys": jnp.asarray(keys)}, carried, settings, supports.PARAMS, support)
    return carried


def test_the_first_epoch_with_the_most_validation_images_right_is_kept(split):
    support = supports.make(noise=2.0)
    good = supports.unit(support.features)
    bad = -good
    carried = reviewed(TipAdapterF(split), support, bad, good, good * 1.0001, bad)
    np.testing.assert_array_equal(carried.keys, good)
    assert (int(carried.epoch), int(carried.epochs)) == (2, 4)


def test_without_validation_images_nothing_is_chosen(split):
    support = supports.without_validation(supports.make())
    keys = supports.unit(support.features)
    method = TipAdapterF(split)
    carried = reviewed(method, support, keys, -keys)
    learned, notes, _ = fit(method, support, carried, {"keys": jnp.asarray(-keys)}, alpha=3.0)
    np.testing.assert_array_equal(learned["keys"], -keys)
    assert notes == {"alpha": 3.0, "beta": 1.0, "epoch": 2}
    assert fit(TipAdapter(split), support, alpha=3.0)[1] == {"alpha": 3.0, "beta": 1.0}


def test_as_many_numbers_as_published_are_learned():
    assert golden.count_parameters("tip_adapter_f", "dtd", "few_shot", classes=47, shots=16) == 47 * 16 * 512
    assert golden.count_parameters("tip_adapter", "dtd", "few_shot", classes=47, shots=16) == 0


@pytest.mark.parametrize(
    ("key", "value"), [("passes", -1), ("alpha", -0.5), ("beta", -1.0), ("alpha_end", 0.1), ("beta_end", 0.0)]
)
def test_values_out_of_their_range_are_named(key, value):
    options = dict(alpha=1.0, alpha_end=3.0, beta_end=7.0) | {key: value}
    assert list(row.problems(row.Options(**options))) == [key]
    assert not row.problems(row.Options(**options | {key: 1}))
