"""Byte pairs in CLIP's form (Sennrich et al., arXiv 1508.07909): words to tokens, and a vocabulary for a list of words.

A word is a sequence of bytes, each a printable character, the last one with `END_OF_WORD`; merges join neighbours, the
earliest merge first. So any text has tokens, down to single bytes.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from dear_jax.files import storage

END_OF_WORD = "</w>"
BEGINNING, END = "<|startoftext|>", "<|endoftext|>"

_PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
# GPT-2's printable character for each byte, printable bytes first.
SYMBOLS = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
SINGLE = [*SYMBOLS.values(), *(symbol + END_OF_WORD for symbol in SYMBOLS.values())]  # the tokens without a merge

Pair = tuple[str, str]


def split(word: str, ranks: Mapping[Pair, int]) -> list[str]:
    """The tokens of a word that is not empty.

    Args:
        word: any text; its UTF-8 bytes count.
        ranks: merges and their order.
    """
    *before, last = (SYMBOLS[byte] for byte in word.encode())
    pieces = [*before, last + END_OF_WORD]
    while known := [pair for pair in pairwise(pieces) if pair in ranks]:
        pieces = _merge(pieces, min(known, key=ranks.__getitem__))
    return pieces


def train_byte_pairs(words: Sequence[str]) -> tuple[dict[str, int], list[Pair]]:
    """Merge the most frequent neighbours until every word is one token.

    Args:
        words: lower-case ASCII words.

    Returns:
        The vocabulary, token -> id: bytes, bytes that end a word, merges, and the two marks, of which the
        end of the text has the largest id. The merges, in the order in which they apply.
    """
    pieces = [[*word[:-1], word[-1] + END_OF_WORD] for word in words]
    merges: list[Pair] = []
    while pairs := Counter(pair for word in pieces for pair in pairwise(word)):
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        pieces = [_merge(word, merges[-1]) for word in pieces]
    tokens = [*SINGLE, *map("".join, merges), BEGINNING, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def save(directory: Path, words: Sequence[str], context_length: int) -> dict[str, int]:
    """Write a tokenizer's files, as transformers reads them, into an existing directory; returns the vocabulary."""
    vocabulary, merges = train_byte_pairs(words)
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": BEGINNING,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "do_lower_case": True,
        "model_max_length": context_length,
    }
    storage.write(directory / "vocab.json", json.dumps(vocabulary, ensure_ascii=False) + "\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    storage.write(directory / "merges.txt", "\n".join(lines) + "\n")
    storage.write(directory / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
    return vocabulary


def _merge(word: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for piece in word:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
