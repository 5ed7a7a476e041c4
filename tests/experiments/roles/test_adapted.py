"""Curves of adapted models: the class sets that are measured, and the tables of made-up curves."""

import numpy as np

from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.data.image_dataset import ImageSplit
from experiments.roles import adapted


def curves(area: float, accuracy: float) -> dict:
    one = {"area": area, "random_area": 2.0}
    points = list(range(0, 26, 2))
    random = {"mean": [accuracy - point for point in points]}
    return {"scores": dict.fromkeys(adapted.SCORES, one), "points": points, "random": random, "orders": 30}


def test_tables():
    runs = [{name: curves(area, 80.0) for name in adapted.COLUMNS} for area in (1.0, 3.0)]
    whose = {"adapted": runs, "zero-shot": runs[:1]}
    areas = adapted.areas(whose).splitlines()
    assert areas[2].startswith("| Concept Entropy | adapted | +2.0 ± 1.0 (± 2.0) |")
    assert areas[3].startswith("| Concept Entropy | zero-shot | +1.0 ± 0.0 (± 2.0) |")
    falling = adapted.falling(whose).splitlines()
    assert [row.split(" | ")[0] for row in falling[2:]] == ["| 0", "| 0", "| 8", "| 8", "| 16", "| 16", "| 24", "| 24"]
    assert falling[4].startswith("| 8 | adapted | 72.0 ± 0.0 |")


def test_a_class_set_has_the_prompts_of_the_world():
    backbone = load_backbone("embedded")
    split = ImageSplit(np.zeros(1, int), lambda index: np.zeros((48, 48, 3), np.uint8))
    found = adapted.class_set(["red", "blue"], split, backbone)
    assert found.prompts == ("a photo of a red.", "a photo of a blue.")
    ids = backbone.tokenizer(list(found.prompts))
    np.testing.assert_array_equal(found.token_ids, ids[:, : found.token_ids.shape[1]])
