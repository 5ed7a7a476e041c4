"""The default bank of descriptions: what its generator makes, and fit for use."""

import re
import tomllib

import pytest

from experiments.roles import make_bank

CORE = ("color", "shape", "texture", "object", "position")
CATEGORIES = make_bank.descriptions(tomllib.loads(make_bank.WORDS.read_text()))
DESCRIPTIONS = [description for found in CATEGORIES.values() for description in found]


def test_the_file_is_what_the_generator_makes():
    assert make_bank.BANK.read_text() == make_bank.bank_text(CATEGORIES)


def test_about_three_thousand_distinct_descriptions():
    assert 2800 <= len(DESCRIPTIONS) <= 3500
    assert len({description.lower() for description in DESCRIPTIONS}) == len(DESCRIPTIONS)


def test_every_category_is_covered():
    sizes = {category: len(found) for category, found in CATEGORIES.items()}
    assert len(sizes) >= 35
    assert min(sizes.values()) >= 20
    assert all(130 <= sizes[attribute] <= 250 for attribute in CORE)


def test_every_description_is_well_formed():
    assert [description for description in DESCRIPTIONS if not is_well_formed(description)] == []


def is_well_formed(description: str) -> bool:
    """ASCII, one line, at most 12 words and 75 characters: with its two marks never more than CLIP's 77 tokens."""
    articles_fit = description == make_bank.with_articles(description) and not re.search(r"\ba a|{|}|  ", description)
    plain = description.isascii() and description.isprintable() and description == description.strip()
    return bool(description) and articles_fit and plain and len(description) <= 75 and len(description.split()) <= 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a photo of a owl", "a photo of an owl"),
        ("a image of a unicorn", "an image of a unicorn"),
        ("a hourglass", "an hourglass"),
        ("a European town", "a European town"),
        ("the letter A and a key", "the letter A and a key"),
    ],
)
def test_articles(text, expected):
    assert make_bank.with_articles(text) == expected
