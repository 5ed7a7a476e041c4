"""Zero-shot CLIP on the unkind tasks without some of its heads."""

import numpy as np

from dear_jax.data.image_dataset import ImageSplit
from experiments.roles import unkind


def test_fooled_are_those_taken_for_what_the_mark_shows():
    split = ImageSplit(np.array([0, 1, 1, 0]), lambda index: None, {"word": np.array(["b", "a", "a", "b"])})
    predicted = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1]])
    assert unkind._fooled(predicted, split, ("a", "b"), mark="word").tolist() == [0, 50, 100]


def test_every_task_is_measured_on_both_halves_of_its_classes(monkeypatch):
    monkeypatch.setattr(unkind, "TRAINING_IMAGES", 4)
    monkeypatch.setattr(unkind.contributions, "stream", lambda *_, **options: np.zeros((4, 3, 8, 2)))

    def right(_, split, texts, ablated, **options):
        predicted = np.stack([split.labels] * len(ablated))
        return predicted, np.zeros(predicted.shape)

    monkeypatch.setattr(unkind.ablation, "predictions", right)
    monkeypatch.setattr(unkind.sentences, "encode_texts", lambda backbone, texts: np.zeros((len(texts), 2)))
    found = unkind.measured(None, np.zeros((2, 3, 8), bool), draws=1)
    assert {name: len(halves) for name, halves in found.items()} == dict.fromkeys(found, 2)
    assert all((half["accuracy"] == 100).all() for halves in found.values() for half in halves)
    assert found["world_spurious"][0]["worst group"].tolist() == [100, 100]
    assert found["world_stickers"][1]["fooled"].tolist() == [0, 0]
