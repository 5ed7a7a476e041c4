"""Is the embedded CLIP fooled by a word or a sticker of another class? Zero-shot, on base classes."""

import jax
import numpy as np
import pytest

from dear_jax.clip import tokenizer
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.clip.split import plain_split
from dear_jax.data.prompts import prompts
from dear_jax.data.world import tasks

SCENES = 240


@pytest.fixture(scope="module")
def predict():
    """Base test scenes of a data set -> the classes predicted, the true ones, those that marks name or show (names)."""
    backbone = load_backbone("embedded")
    split = plain_split(backbone.config)
    look = jax.jit(lambda images: split.look(backbone.params, images).features)

    def of(dataset, mark):
        base = dataset.keep_classes(range(6))
        images = np.stack([base.test.load(index) for index in range(SCENES)])
        ids = tokenizer.shorten(backbone.tokenizer(prompts(base.class_names, base.template)))
        classes = split.encode_prompts(backbone.params, ids).features
        features = np.concatenate([np.asarray(look(part)) for part in np.split(images, 4)])
        names = np.array(base.class_names)
        shown = base.test.attributes[mark][:SCENES] if mark else None
        return names[np.argmax(features @ np.asarray(classes).T, axis=1)], names[base.test.labels[:SCENES]], shown

    return of


def test_a_word_hides_something_and_says_nothing(predict, monkeypatch):
    """Wrong words do as much harm as the true names, and are predicted as often as where they are not written."""
    predicted, true, shown = predict(tasks.load("world_words_4"), "word")
    monkeypatch.setattr(tasks.SceneLoader, "others", lambda self, indices: np.asarray(indices) % len(self.classes))
    with_true_names, true_again, written = predict(tasks.load("world_words_4"), "word")
    assert (true == true_again).all()
    assert (written == true).all()
    wrong, fooled = percent(predicted != true), percent(predicted == shown)
    print(f"\nwords of another class: {wrong:.2f} % wrong, {fooled:.2f} % called by the word")
    other_wrong, other_fooled = percent(with_true_names != true), percent(with_true_names == shown)
    print(f"the true names instead: {other_wrong:.2f} % wrong, {other_fooled:.2f} % called the wrong word")
    assert abs(wrong - other_wrong) < 4
    assert abs(fooled - other_fooled) < 2


def test_a_sticker_is_taken_for_the_class(predict):
    predicted, true, shown = predict(tasks.load("world_stickers_4"), "sticker")
    wrong, fooled = percent(predicted != true), percent(predicted == shown)
    print(f"\nstickers of another class: {wrong:.2f} % wrong, {fooled:.2f} % called what the sticker shows")
    assert fooled > 0.4 * wrong  # by chance a fifth


def percent(those):
    """The share of scenes."""
    return 100 * np.mean(those)
