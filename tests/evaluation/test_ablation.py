"""Accuracy with ever more heads ablated: by its definition in NumPy; that of plain CLIP is the role report's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.data import pipeline
from dear_jax.data.world import tasks
from dear_jax.evaluation import ablation
from dear_jax.evaluation.features import Encoder
from dear_jax.methods import adapter_file
from dear_jax.roles import ablation as of_clip
from dear_jax.roles import curves, role_map
from dear_jax.roles.decompose import decompose, paths_and_heads
from dear_jax.setup import config_files, data
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache")
SETTINGS = {"rule": 0.6, "batch_size": 32}


@pytest.fixture(scope="module")
def measured(embedded_run, compilation_cache):
    """Class sets of 60 test images, 30 training images, and the curves of both variants."""
    config = config_files.load(str(REPOSITORY / "configs" / "base2new.py") + ":world_compositions")
    plan, backbone = data.read(config), load_backbone("embedded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "TEST_SCENES", 120)
        classes, _ = data.load_classes(plan, backbone)
        images = data.load_training_images(plan).subset(range(0, 300, 10))
    trained = adapter_file.load(embedded_run)
    ablation.check(trained, backbone, images)
    found = ablation.measure(trained, backbone, classes, images, role_map.load(role_map.EMBEDDED), **SETTINGS)
    return trained, backbone, classes, images, found


def pixels_of(split, backbone):
    batches = pipeline.eval_batches(split, len(split), backbone.config.image_size)
    return vision.normalize(jnp.asarray(next(iter(batches))["image"]), backbone.config)


def test_a_run_by_its_definition(measured):
    trained, backbone, classes, images, found = measured
    encoder = Encoder(trained.select("random"), backbone, jnp.float32, 32)
    adapter, settings = jax.tree.map(lambda leaf: leaf[:, 0], encoder.run[0]), encoder.run[1]
    settings = jax.tree.map(lambda leaf: leaf[0], settings)
    expected = {name: [] for name in classes}
    for seed in range(2):
        run = jax.tree.map(lambda leaf, seed=seed: leaf[seed], adapter)
        read = encoder.method.read_out(run, settings, backbone.params)
        looked = paths_and_heads(read, backbone.config, pixels_of(images, backbone), 5)
        means = np.asarray(looked.heads, np.float64).mean(0)
        for name, one in classes.items():
            text = np.asarray(encoder.classes(one.class_names, one.template)[0].adapted[seed], np.float64)
            parts = paths_and_heads(read, backbone.config, pixels_of(one.test, backbone), 5)
            features, heads = (np.asarray(leaf, np.float64) for leaf in parts)
            weights = np.array([0.6, 0.4 / 3, 0.4 / 3, 0.4 / 3])  # none of the classes was trained on
            at_all = []
            for points in (0, 24):  # no head, and all of them
                changed = features - (heads - means).sum((2, 3)) if points else features
                unit = changed / np.linalg.norm(changed, axis=-1, keepdims=True)
                predicted = np.einsum("n,bnd,cd->bc", weights, unit, text).argmax(1)
                at_all.append(100 * np.mean(predicted == one.test.labels))
            expected[name].append(at_all)
    for name, of_seeds in expected.items():
        none, every = np.mean(of_seeds, axis=0)
        ours = found["class_sets"][name]["variants"]["random"]
        assert ours["accuracy"] == pytest.approx(none, abs=1e-9)
        for score in ours["scores"].values():
            for order in ("highest", "lowest"):
                assert score[order][0] == pytest.approx(none, abs=1e-9)
                assert score[order][-1] == pytest.approx(every, abs=1e-9)
        assert ours["random"]["mean"][-1] == pytest.approx(every, abs=1e-9)
        assert every < none
    assert set(found["class_sets"]["base"]["variants"]) == {"open", "random"}


def test_plain_clip_as_the_role_report_measures_it(measured):
    _, backbone, classes, images, found = measured
    heads = np.asarray(decompose(backbone.params, backbone.config, pixels_of(images, backbone), 5).heads)
    means = of_clip.means(heads)
    shipped = role_map.load(role_map.EMBEDDED)
    order = curves.by_score({"entropy": np.ravel(shipped.details["entropy"])})
    along = curves.sets(order, (3, 8))
    encoder = Encoder(measured[0].select(), backbone, jnp.float32, 32)
    for name, one in classes.items():
        text = np.asarray(encoder.classes(one.class_names, one.template)[0].plain)
        sets = np.concatenate(list(along.values()))
        options = {"first_layer": 5, "means": means, "ablated": sets, "batch_size": 30}
        expected = of_clip.effects(backbone, one.test, text, **options)
        theirs = curves.summarize(curves.points(24), list(along), expected.accuracy)
        ours = found["class_sets"][name]["zero_shot"]
        for kind in ("highest", "lowest"):
            np.testing.assert_allclose(
                ours["scores"]["entropy"][kind], theirs["scores"]["entropy"][kind], atol=100 / len(one.test) + 1e-9
            )  # a tie between two classes may go either way
        np.testing.assert_allclose(ours["random"]["mean"], theirs["random"]["mean"], atol=0.2)


def test_scores_by_their_definition(measured):
    trained, backbone, classes, images, _ = measured
    encoder = Encoder(trained.select("open"), backbone, jnp.float32, 7)  # batches that do not divide 30
    model = ablation._Model.of_run(encoder)
    base = classes["base"]
    text = model.features(base)
    looked = model.look(images, text, model.weights(0.6), 5)
    adapter, settings = jax.tree.map(lambda leaf: leaf[:, 0], encoder.run[0]), encoder.run[1]
    settings = jax.tree.map(lambda leaf: leaf[0], settings)
    variances, attributions = [], []
    for seed in range(2):
        run = jax.tree.map(lambda leaf, seed=seed: leaf[seed], adapter)
        read = encoder.method.read_out(run, settings, backbone.params)
        parts = paths_and_heads(read, backbone.config, pixels_of(images, backbone), 5)
        features, heads = (np.asarray(leaf, np.float64) for leaf in parts)
        np.testing.assert_allclose(looked.means[seed], heads.mean(0), atol=1e-5)
        weights = np.array([0.6, 0.4 / 3, 0.4 / 3, 0.4 / 3])
        shares = heads * (weights / np.linalg.norm(features, axis=-1))[:, :, None, None, None]
        variances.append(shares.var(0).sum((0, 3)))
        own = np.asarray(text[seed], np.float64)
        flat = shares.sum(1).reshape(len(images), 24, -1)  # over the paths
        attributions.append(curves.attribution(flat, images.labels, own).reshape(3, 8))
    np.testing.assert_allclose(looked.variance, np.mean(variances, 0), rtol=1e-4)
    np.testing.assert_allclose(looked.attribution, np.mean(attributions, 0), atol=1e-6)
