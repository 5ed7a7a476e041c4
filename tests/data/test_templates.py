"""OpenAI's lists of templates, and what config.data.template may be."""

import pytest

from dear_jax.data import templates
from dear_jax.data.datasets import DATASETS
from dear_jax.errors import UserError


def test_lists_are_as_long_as_published_and_each_template_has_a_place_for_the_name():
    lengths = {name: len(found) for name, found in templates.OPENAI.items()}
    assert lengths == {
        "imagenet": 80, "caltech101": 34, "oxford_pets": 1, "stanford_cars": 8, "oxford_flowers": 1, "food101": 1,
        "fgvc_aircraft": 2, "sun397": 2, "dtd": 8, "eurosat": 3, "ucf101": 48,
    }  # fmt: skip
    for found in (*templates.OPENAI.values(), templates.IMAGENET_60):
        assert len(set(found)) == len(found)
        assert all(template.count("{}") == 1 and template.endswith((".", "!")) for template in found)
    assert len(templates.IMAGENET_60) == 60
    assert templates.OPENAI.keys() <= DATASETS.keys()


def test_what_the_key_may_be(tmp_path):
    own = "a photo of a {}."
    assert templates.find("", "dtd", own) == (own,)
    assert templates.find("{} texture.", "dtd", own) == ("{} texture.",)
    assert templates.find("ensemble", "dtd", own) == templates.OPENAI["dtd"]
    assert templates.find("ensemble", "imagenet_r", own) == templates.IMAGENET
    path = tmp_path / "templates.txt"
    path.write_text("a {}.\n\nmy {}.\na {}.\n")
    assert templates.find(str(path), "dtd", own) == ("a {}.", "my {}.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected a prompt with {} once"),
        ("a photo\n", "found 'a photo'"),
        ("{} or {}\n", "found '{} or {}'"),
        ("\n", "found no line"),
        (b"\xff\xfe", "cannot be read as text"),
    ],
)
def test_what_is_no_list_of_templates_is_refused(tmp_path, content, message):
    path = tmp_path / "templates.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(UserError) as error:
        templates.find(str(path), "dtd", "{}.")
    assert message in str(error.value)
    assert str(path) in str(error.value)
