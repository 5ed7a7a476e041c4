"""Strings to ids: transformers' ids, zero padding, no silent cut."""

import numpy as np
import pytest
from transformers import CLIPTokenizer

from dear_jax.clip.tokenizer import Tokenizer, shorten
from dear_jax.clip.weights import EMBEDDED
from dear_jax.errors import UserError

TEXTS = ["a photo of a striped red heart.", "Ünïcode &amp; 漢字 42!", "", "  many   blanks\tand\nlines "]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(EMBEDDED["embedded"], 77)


def test_ids_are_those_of_transformers(tokenizer):
    ids = tokenizer(TEXTS)
    assert (ids.dtype, ids.shape) == (np.int32, (len(TEXTS), 77))
    reference = CLIPTokenizer.from_pretrained(EMBEDDED["embedded"])
    for text, row in zip(TEXTS, ids, strict=True):
        expected = reference(text)["input_ids"]
        np.testing.assert_array_equal(row[: len(expected)], expected)
        assert not row[len(expected) :].any()


def test_overlong_prompts_are_named(tokenizer):
    long = "red " * 100
    with pytest.raises(UserError, match=r"The prompt 'red red .* has 102 tokens, the text tower takes 77"):
        tokenizer(["short", long])


def test_shorten_keeps_the_longest_text(tokenizer):
    ids = tokenizer(["one", "a photo of a striped red heart on a brick wall at the top left"])
    short = shorten(ids)
    longest = int((ids != 0).sum(axis=1).max())
    assert short.shape[1] == -(-longest // 8) * 8
    np.testing.assert_array_equal(ids[:, : short.shape[1]], short)
    assert not ids[:, short.shape[1] :].any()


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer found, expected tokenizer.json, or vocab.json"):
        Tokenizer(tmp_path, 77)
