"""Results are called comparable where they were made as published ones were, and nowhere else."""

import dataclasses

import pytest

from dear_jax import main
from dear_jax.clip.checkpoints import weights
from dear_jax.setup import departures, recipes


def reasons(*flags):
    config, _, _ = main.parse(["--config=base2new:oxford_pets", *flags])
    return departures.of_training(recipes.resolve(config))


@pytest.mark.parametrize("method", ["dear", "mmrl", "coop", "tip_adapter"])
def test_a_method_by_its_recipe_departs_from_nothing(method):
    protocol = "few_shot" if method == "tip_adapter" else "base2new"
    assert reasons(f"--config.method={method}", f"--config.protocol={protocol}") == []


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("data.shots=4", "shots are 4, published 16"),
        ("seeds=1", "seeds are 1, published 1, 2, 3"),
        ("train.epochs=1", "train.epochs is 1, the recipe's 10"),
        ("train.share=0.5", "train.epochs is 5, the recipe's 10"),
        ("optimizer.learning_rate=0.5", "optimizer.learning_rate is 0.5, the recipe's 0.001"),
        ("data.flip=false", "data.flip is False, the recipe's True"),
    ],
)
def test_what_departs_is_said(flag, reason):
    assert reasons(f"--config.{flag}") == [reason]


def test_few_shot_tables_have_every_number_of_shots():
    assert reasons("--config.protocol=few_shot", "--config.data.shots=4") == []


def test_another_backbone():
    embedded = weights.load_backbone("embedded")
    assert departures.of_backbone(embedded) == ["the backbone is embedded, published openai/clip-vit-base-patch16"]
    published = dataclasses.replace(embedded, name="/models/clip-vit-base-patch16")
    assert departures.of_backbone(published) == []


def test_the_notes_say_it_of_every_data_set():
    notes = {
        "comparable": True,
        "remark": "Sorted.",
        "targets": {"a": {"comparable": True, "remark": ""}, "b": {"comparable": False, "remark": "Cut."}},
    }
    found = departures.note(notes, ["shots are 4, published 16"])
    why = "Not comparable with published tables: shots are 4, published 16."
    assert (found["comparable"], found["remark"]) == (False, f"{why} Sorted.")
    assert found["targets"]["a"] == {"comparable": False, "remark": why}
    assert found["targets"]["b"] == {"comparable": False, "remark": "Cut."}
    assert departures.note(notes, []) == notes
