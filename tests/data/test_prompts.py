"""Prompts: the name goes where {} is; what no text encoder could tell apart is refused."""

import numpy as np
import pytest

from dear_jax.clip.checkpoints.weights import EMBEDDED
from dear_jax.clip.tokenizer import Tokenizer
from dear_jax.data.prompts import check_distinct, prompts
from dear_jax.errors import UserError


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(EMBEDDED["embedded"], 77)


def test_names_fill_the_template():
    names = ["red_heart", "Abyssinian", "737-200", "a {curly} one"]
    assert prompts(names, "a photo of a {}, a type of pet.") == [
        "a photo of a red heart, a type of pet.",
        "a photo of a Abyssinian, a type of pet.",
        "a photo of a 737-200, a type of pet.",
        "a photo of a a {curly} one, a type of pet.",
    ]
    assert prompts(["banded"], "{} texture.") == ["banded texture."]


@pytest.mark.parametrize("template", ["a photo.", "", "a {} and a {}", "a photo of {0}", "{name}"])
def test_template_needs_one_place_for_the_name(template):
    with pytest.raises(UserError, match=r"data\.template.*once"):
        prompts(["cat", "dog"], template)


TWINS = {
    "sea_lion": "sea  Lion ",
    "café": "cafe\u0301",  # one character, and a letter with a mark
    "cat & dog": "cat &amp; dog",
    "bird's nest": "bird\u2019s nest",
}


@pytest.mark.parametrize("name", TWINS)
def test_names_that_are_one_to_the_tokenizer_are_refused(name, tokenizer):
    names = ["cat", name, TWINS[name]]
    with pytest.raises(UserError) as caught:
        check_distinct(names, tokenizer(prompts(names, "a {}")))
    assert f"Classes 1 ({name!r}) and 2 ({TWINS[name]!r}) give the same prompt" in str(caught.value)


def test_names_that_the_tokenizer_tells_apart_are_not(tokenizer):
    names = ["straße", "strasse", "737", "7 37 0"]
    check_distinct(names, tokenizer(prompts(names, "a {}")))


def test_all_collisions_are_named_up_to_ten():
    with pytest.raises(UserError) as caught:
        check_distinct(["cat", "dog", "Cat", "DOG"], np.array([[1], [2], [1], [2]]))
    assert "Classes 0 ('cat') and 2 ('Cat'); 1 ('dog') and 3 ('DOG') give the same prompt" in str(caught.value)
    with pytest.raises(UserError, match=r"0 \('a'\) and 10 \('a'\); and 3 more pairs give the same prompt"):
        check_distinct(["a"] * 14, np.zeros((14, 5), int))


@pytest.mark.parametrize("name", ["", "_", "  "])
def test_empty_names_are_refused(name):
    with pytest.raises(UserError, match="Class 1 has an empty name"):
        prompts(["cat", name], "a {}")
