"""Banks and anchors: what is read, what is refused, what is generated."""

import pytest

from dear_jax.data.world.captions import attribute_phrases
from dear_jax.errors import UserError
from dear_jax.roles import bank


def write(path, text):
    path.write_text(text)
    return path


def test_the_embedded_bank_is_the_generated_one():
    assert bank.load(bank.EMBEDDED) == tuple(bank.embedded_bank())
    assert len(set(bank.embedded_bank())) == 42 * 9


def test_comments_are_no_descriptions(tmp_path):
    path = write(tmp_path / "bank.txt", "# made by hand\na red thing\n  a star \n")
    assert bank.load(path) == ("a red thing", "a star")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n\nb\n", "line 2 is empty"),
        ("a star\nb\nA Star\n", "line 3 repeats 'A Star' of line 1"),
        ("a\nb\n\na\nb\n", "line 3 is empty; line 4 repeats 'a' of line 1; line 5 repeats 'b' of line 2"),
        ("a\n" * 9, "and 3 more"),
        ("one line\n", "holds 1 description. A bank needs hundreds"),
        ("# nothing\n", "holds 0 descriptions"),
        ("", "holds 0 descriptions"),
    ],
)
def test_bad_banks_are_refused(text, message, tmp_path):
    with pytest.raises(UserError, match=message):
        bank.load(write(tmp_path / "bank.txt", text))


def test_unreadable_banks_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        bank.load(tmp_path / "absent.txt")
    (tmp_path / "bank.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        bank.load(tmp_path / "bank.txt")


def test_anchors_of_a_file(tmp_path):
    assert bank.load_anchors(write(tmp_path / "a.json", '{"size": ["big", "small"]}')) == {"size": ("big", "small")}
    with pytest.raises(UserError, match="cannot be read as JSON"):
        bank.load_anchors(write(tmp_path / "b.json", "{"))
    with pytest.raises(UserError, match="expected"):
        bank.load_anchors(write(tmp_path / "c.json", '{"size": "big"}'))


def test_an_attribute_without_phrases_is_named_by_its_own_name():
    anchors = bank.with_attributes(bank.embedded_anchors(), ("color", "size"))
    assert anchors["size"] == ("size",)
    assert anchors["color"] == attribute_phrases("color")
