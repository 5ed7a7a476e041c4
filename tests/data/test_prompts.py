"""Prompts: the name goes where {} is; what no text encoder could tell apart is refused."""

import pytest

from dear_jax.data.prompts import prompts
from dear_jax.errors import UserError


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


@pytest.mark.parametrize("twin", ["sea_lion", "Sea Lion", "sea  lion "])
def test_colliding_names_are_refused_by_name(twin):
    with pytest.raises(UserError) as caught:
        prompts(["cat", "sea lion", twin], "a {}")
    assert "Classes 1 ('sea lion')" in str(caught.value)
    assert f"2 ({twin!r})" in str(caught.value)


def test_all_collisions_are_named_up_to_ten():
    with pytest.raises(UserError) as caught:
        prompts(["cat", "dog", "Cat", "DOG"], "a {}")
    assert "Classes 0 ('cat') and 2 ('Cat'); 1 ('dog') and 3 ('DOG') give the same prompt" in str(caught.value)
    with pytest.raises(UserError, match=r"0 \('a'\) and 10 \('a'\); and 3 more pairs give the same prompt"):
        prompts(["a"] * 14, "a {}")


@pytest.mark.parametrize("name", ["", "_", "  "])
def test_empty_names_are_refused(name):
    with pytest.raises(UserError, match="Class 1 has an empty name"):
        prompts(["cat", name], "a {}")


def test_imagenet_may_have_a_name_twice():
    assert prompts(["sunglasses", "sunglasses"], "a {}", distinct=False) == ["a sunglasses", "a sunglasses"]
    with pytest.raises(UserError, match="Class 1 has an empty name"):
        prompts(["cat", ""], "a {}", distinct=False)
