"""What heads cause: exchanges of contributions, and the curves of ever more ablated heads."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError
from dear_jax.roles import ablation, analysis, causes, curves, decompose
from dear_jax.setup import roles as setup_roles

VALUES = {
    "color": np.eye(6)[:2].astype(np.float32),
    "shape": np.eye(6)[2:4].astype(np.float32),
    "size": np.eye(6)[4:].astype(np.float32),
}


@pytest.fixture(scope="module")
def heads():
    """Head 0 writes the color, head 1 a part of the shape, head 2 nothing; the size comes from elsewhere."""
    generator = np.random.default_rng(0)
    color, shape, size = (np.eye(2)[generator.integers(0, 2, 200)] for _ in range(3))
    nothing = np.zeros((200, 2))
    parts = np.stack(
        [
            np.concatenate([color, nothing, nothing], 1),
            np.concatenate([nothing, 0.25 * shape, nothing], 1),
            np.zeros((200, 6)),
        ],
        axis=1,
    )
    rest = np.concatenate([nothing, 0.75 * shape, size], 1)
    return (parts.sum(1) + rest).astype(np.float32), parts.astype(np.float16)


def test_exchanges_find_what_a_head_carries(heads):
    found = causes.interchange(*heads, VALUES)
    assert found.attributes == ("color", "shape", "size")
    np.testing.assert_allclose(found.carried, [[1, 0, 0], [0, 0.25, 0], [0, 0, 0]], atol=1e-6)
    assert 0.35 < found.moved[0, 0] < 0.65  # half of the pairs have the same color
    assert found.moved[1:].max() == 0  # a quarter of the way moves no decision
    np.testing.assert_allclose(found.shares(), [[1, 0, 0], [0, 1, 0], [1 / 3] * 3], atol=1e-6)


def test_an_attribute_that_no_image_differs_in_is_carried_by_none(heads):
    outputs, parts = heads
    found = causes.interchange(outputs, parts, VALUES | {"weight": np.zeros((2, 6), np.float32)})
    assert found.carried[:, -1].tolist() == [0, 0, 0]


@pytest.fixture(scope="module")
def embedded():
    """The embedded CLIP, images and what its heads of layers 6 and 7 contribute to them."""
    backbone = load_backbone("embedded")
    size = backbone.config.image_size
    images = np.random.default_rng(0).integers(0, 256, (6, size, size, 3), dtype=np.uint8)
    pixels = vision.normalize(jnp.asarray(images), backbone.config)
    parts = decompose.decompose(backbone.params, backbone.config, pixels, 6)
    return backbone, ImageSplit(np.zeros(6, int), lambda index: images[index]), parts


def test_all_parts_carry_everything(embedded):
    """The closing identity: heads, MLPs, biases (by each image's norm) and what enters layer J are the whole way."""
    backbone, images, parts = embedded
    outputs = causes.outputs(backbone, images, 4)
    np.testing.assert_allclose(outputs, parts.total(), atol=1e-4)
    count = len(images)
    heads = np.asarray(parts.heads).reshape(count, -1, outputs.shape[1])
    others = np.concatenate([np.asarray(parts.before)[:, None], parts.biases, parts.mlps], axis=1)
    values = {"any": np.random.default_rng(1).normal(size=(40, outputs.shape[1])).astype(np.float32)}
    found = causes.interchange(outputs, np.concatenate([heads, others], axis=1), values)
    assert found.carried.sum() == pytest.approx(1, abs=1e-3)


def test_a_map_by_cause_rests_on_what_is_carried(embedded):
    backbone, images, parts = embedded
    options = dataclasses.replace(setup_roles.read(base.get_config()).options, by="cause")
    anchors = {"color": ("red", "blue"), "object": ("car", "star"), "alone": ("one phrase",)}
    details = analysis.exchange(backbone, np.asarray(parts.heads), images, anchors, options)
    assert details["causes"]["attributes"] == ["color", "object"]
    assert np.shape(details["causes"]["carried"]) == (2, 8, 2)
    assert details["entropy"] == details["causes"]["entropy"]
    heads = [[{"cluster": 0}] * 8] * 2
    roles = analysis.assign(
        details | {"heads": heads, "clusters": [{"name": "texture"}], "settings": {"by": "cause"}}, ("color", "object")
    )
    largest = np.argmax(details["causes"]["carried"], axis=-1)
    for row, head in np.ndindex(2, 8):
        if roles[row][head].startswith("attribute:"):
            assert roles[row][head] == f"attribute:{('color', 'object')[largest[row, head]]}"
    options = dataclasses.replace(options, by="entropy", causes=True)
    assert analysis.exchange(backbone, np.asarray(parts.heads), images, anchors, options).keys() == {"causes"}
    with pytest.raises(UserError, match=r"an attribute with two phrases \(found 0"):
        analysis.exchange(backbone, np.asarray(parts.heads), images, {"alone": ("one",)}, options)


def test_by_cause_and_by_chance_do_not_go_together():
    options = setup_roles.read(base.get_config()).options
    with pytest.raises(UserError, match=r"config.roles.thresholds \(with by=cause\) is 'chance', expected quantile"):
        dataclasses.replace(options, by="cause", thresholds="chance").check()


def test_curves_go_from_no_head_to_all():
    assert curves.points(4) == [0, 1, 2, 3, 4]
    points = curves.points(48)
    assert (points[0], points[-1], len(points)) == (0, 48, curves.POINTS)
    sets = curves.first_heads(np.array([3, 0, 2, 1]), (2, 2))
    assert sets.reshape(5, 4).astype(int).tolist() == [
        [0, 0, 0, 0],
        [0, 0, 0, 1],
        [1, 0, 0, 1],
        [1, 0, 1, 1],
        [1, 1, 1, 1],
    ]
    assert curves.area(np.array([1.0, 3.0, 1.0]), np.ones(3), [0, 1, 2]) == 1.0


def test_curves_are_summarized():
    points = [0, 1, 2]
    names = ["entropy, highest", "entropy, lowest", "random 0", "random 1"]
    accuracies = np.array([[9.0, 5.0, 3.0], [9.0, 8.0, 3.0], [9.0, 6.0, 3.0], [9.0, 7.0, 3.0]])
    found = curves.summarize(points, names, accuracies.ravel())
    assert found["scores"]["entropy"]["area"] == 1.5
    assert found["scores"]["entropy"]["random_area"] == 0.5
    assert (found["random"]["mean"], found["orders"]) == ([9.0, 6.5, 3.0], 2)


def test_logit_attribution_is_of_the_true_class():
    classes = np.array([[1.0, 0.0], [0.0, 1.0]])
    labels = np.array([0, 1, 0, 1])
    right, constant = classes[labels], np.ones((4, 2))
    score = curves.attribution(np.stack([right, -right, constant], axis=1), labels, classes)
    np.testing.assert_allclose(score, [0.5, -0.5, 0], atol=1e-12)


def test_the_error_of_a_change_is_that_of_paired_images():
    effects = ablation.Effects(100, np.array([90.0]), np.array([4.0]), np.array([0.0]), np.array([1.0]))
    assert effects.change[0] == -4
    assert effects.error[0] == pytest.approx(100 * np.sqrt(0.04 * 0.96 / 100))
