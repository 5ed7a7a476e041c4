"""The tokenizer of the embedded CLIP, against transformers' reading of its files."""

from pathlib import Path

import pytest
from transformers import CLIPTokenizer

from dear_jax.clip import byte_pairs
from dear_jax.data.world import captions


@pytest.fixture(scope="module")
def vocabulary_and_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], CLIPTokenizer]:
    directory: Path = tmp_path_factory.mktemp("tokenizer")
    vocabulary = byte_pairs.save(directory, captions.vocabulary(), context_length=77)
    return vocabulary, CLIPTokenizer.from_pretrained(str(directory), local_files_only=True)


def test_every_word_is_one_token(vocabulary_and_tokenizer: tuple[dict[str, int], CLIPTokenizer]) -> None:
    vocabulary, tokenizer = vocabulary_and_tokenizer
    for word in captions.vocabulary():
        expected = [vocabulary[token] for token in (byte_pairs.BEGINNING, word + "</w>", byte_pairs.END)]
        assert tokenizer(word)["input_ids"] == expected


@pytest.mark.parametrize("text", ["zebra's 7 apples", "Übung 漢字!", "reddish bluegreen", "tab\tand  blanks"])
def test_any_text_has_tokens(text: str, vocabulary_and_tokenizer: tuple[dict[str, int], CLIPTokenizer]) -> None:
    vocabulary, tokenizer = vocabulary_and_tokenizer
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == vocabulary[byte_pairs.BEGINNING]
    assert ids[-1] == vocabulary[byte_pairs.END]
    assert byte_pairs.END not in tokenizer.convert_ids_to_tokens(ids[1:-1])  # nothing unknown


def test_the_vocabulary_is_small_and_ends_with_the_end_of_text(
    vocabulary_and_tokenizer: tuple[dict[str, int], CLIPTokenizer],
) -> None:
    vocabulary, tokenizer = vocabulary_and_tokenizer
    assert len(vocabulary) < 1200
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))
    assert max(vocabulary, key=lambda token: vocabulary[token]) == byte_pairs.END
    assert tokenizer.eos_token_id == len(vocabulary) - 1
