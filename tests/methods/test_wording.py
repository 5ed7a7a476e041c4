"""What the text tower reads of a class set: the data set's own prompts, a method's, and ensembles of plain CLIP's."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip import text
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.clip.split import plain_split
from dear_jax.clip.tokenizer import shorten
from dear_jax.data import prompts
from dear_jax.data.class_set import ClassSet
from dear_jax.methods import wording
from dear_jax.methods.contract import Targets
from dear_jax.methods.mmrl import MMRL

NAMES, OWN = ("red heart", "blue star", "cyan ring with a dot"), "a photo of a {}."
ENSEMBLE = ("a photo of a {}.", "a bad photo of the {} in a big picture.", "{}.")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone("embedded")


@pytest.fixture(scope="module")
def classes(backbone):
    def tokenize(template):
        return shorten(backbone.tokenizer(prompts.prompts(NAMES, template)))

    return ClassSet(NAMES, "world", OWN, (OWN,), tuple(prompts.prompts(NAMES, OWN)), tokenize, test=None)


def plain(backbone, template):
    """Features as they come, each prompt at the full context length."""
    ids = backbone.tokenizer(prompts.prompts(NAMES, template))
    return np.asarray(text.encode(backbone.params, backbone.config, jnp.asarray(ids)), np.float64)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


class Own(MMRL):
    """Reads prompts of its own, and compares with those of a list."""

    def prompt(self, dataset, template):
        return f"my {template}"

    def targets(self, dataset, ensemble):
        return Targets(ENSEMBLE, unit_mean=False)


def test_of_an_ensemble_the_mean_of_unit_features_is_taken(backbone, classes):
    split = plain_split(backbone.config)
    expected = unit(sum(unit(plain(backbone, template)) for template in ENSEMBLE))
    of_three = dataclasses.replace(classes, ensemble=ENSEMBLE)
    np.testing.assert_allclose(wording.plain_features(split, backbone.params, of_three), expected, atol=2e-6)
    method = MMRL(split)
    np.testing.assert_allclose(wording.encode(method, backbone.params, of_three).features, expected, atol=2e-6)
    np.testing.assert_array_equal(wording.prompt_ids(method, of_three), classes.token_ids)


def test_of_one_template_both_ways_are_one(backbone, classes):
    split = plain_split(backbone.config)
    expected = unit(plain(backbone, OWN))
    np.testing.assert_allclose(wording.plain_features(split, backbone.params, classes), expected, atol=2e-6)
    targets = Targets((OWN,))
    found = wording.target_features(split, backbone.params, targets, classes.tokenize)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_a_method_reads_its_own_prompts_and_compares_with_its_own_targets(backbone, classes):
    method = Own(plain_split(backbone.config))
    found = wording.encode(method, backbone.params, classes)
    expected = unit(sum(plain(backbone, template) for template in ENSEMBLE))
    np.testing.assert_allclose(found.features, expected, atol=2e-6)
    np.testing.assert_array_equal(found.ids, classes.tokenize(f"my {OWN}"))
    read = method.split.read_prompts(backbone.params, found)
    np.testing.assert_allclose(read, unit(plain(backbone, f"my {OWN}")), atol=2e-6)
