"""The model card: metadata that the hub reads, and what a reader needs to load and judge an adapter."""

import pytest
from huggingface_hub import ModelCard

from dear_jax.report import model_card
from dear_jax.report.model_card import About

ROW = {"base": 80.0, "new": 70.0, "hm": 74.67}
RESULTS = {
    "protocol": "base2new",
    "dataset": "oxford_pets",
    "backbone": "openai/clip-vit-base-patch16",
    "shots": 16,
    "method_title": "DeAR",
    "variants": {"default": {"seeds": {"1": ROW}, "mean": ROW, "std": dict.fromkeys(ROW, 0.5), "new_classes": {}}},
    "zero_shot": ROW,
    "data": {"comparable": False, "remark": "Not comparable.", "source": "coop", "splits": "split_zhou.json"},
    "version": "0.1.0",
}
ABOUT = About(
    repository="me/pets",
    method="dear",
    backbone="openai/clip-vit-base-patch16",
    base_model="openai/clip-vit-base-patch16",
    fingerprint="0123456789abcdef",
    template="a photo of a {}, a type of pet.",
    class_names=[f"<b>{index}" for index in range(30)],
    seeds=(1,),
    license="cc-by-4.0",
    command="python -m dear_jax.main --config.data.root=LOCAL '--config.data.template=a <{}> & more'",
)


def test_metadata():
    data = ModelCard(model_card.render(RESULTS, ABOUT)).data
    assert (data.library_name, data.license, data.datasets) == ("dear_jax", "cc-by-4.0", None)
    assert (data.base_model, data.base_model_relation) == ("openai/clip-vit-base-patch16", "adapter")
    assert {"clip", "dear", "base2new", "oxford_pets"} <= set(data.tags)
    measured = {result.metric_name: result.metric_value for result in data.eval_results}
    assert measured == {"Base, percent": 80.0, "New, percent": 70.0, "HM, percent": 74.67}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dataset": "food101"}, ["ethz/food101"]),
        ({"dataset": "pets", "data": RESULTS["data"] | {"hf": "me/pets:plain@v1"}}, ["me/pets"]),
        ({"dataset": "pets", "data": RESULTS["data"] | {"hf": "LOCAL"}}, None),
    ],
)
def test_data_sets_of_the_hub(changes, expected):
    assert ModelCard(model_card.render(RESULTS | changes, ABOUT)).data.datasets == expected


def test_text():
    card = model_card.render(RESULTS, ABOUT)
    for text in (
        "# DeAR on oxford_pets",
        "`0123456789abcdef`",
        "[openai/clip-vit-base-patch16](https://huggingface.co/openai/clip-vit-base-patch16)",
        "30 classes, 16 images of each: &lt;b&gt;0, ",
        "| DeAR, mean ± std | **80.00** ± 0.50 |",
        "Not comparable.",
        'Classifier.load("me/pets")',
        "--config.run=hf://me/pets",
        ABOUT.command,
        "`LOCAL` stands for",
        "cc-by-4.0",
    ):
        assert text in card
    assert "<b>20" not in card.replace("&lt;b&gt;", "<b>")


@pytest.mark.parametrize("backbone", ["embedded", "clip"])
def test_without_a_licence_and_on_a_backbone_that_is_not_on_the_hub(backbone):
    about = About(**{**vars(ABOUT), "backbone": backbone, "base_model": "", "license": "", "command": ""})
    older = {key: value for key, value in RESULTS.items() if key not in ("version", "method_title")}
    card = model_card.render(older, about)
    data = ModelCard(card).data
    assert data.base_model is None
    assert data.license is None
    assert "has chosen none" in card
    assert "How it was made" not in card
    assert ("travels with `dear_jax`" in card) == (backbone == "embedded")
