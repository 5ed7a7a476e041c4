"""A byte-pair vocabulary in CLIP's format for a small list of words (Sennrich et al., arXiv 1508.07909).

Comes in: words. Goes out: the vocabulary and the merges, and with `save` the files that
`transformers.CLIPTokenizer` reads. Every word of the list becomes one token; any other text falls back to
shorter pieces, down to single bytes.
"""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from dear_jax.files import storage

END_OF_WORD = "</w>"
BEGINNING, END = "<|startoftext|>", "<|endoftext|>"

Pair = tuple[str, str]


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
    symbols = _byte_symbols()
    tokens = [*symbols, *(symbol + END_OF_WORD for symbol in symbols), *map("".join, merges), BEGINNING, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def save(directory: Path, words: Sequence[str], context_length: int) -> dict[str, int]:
    """Write the tokenizer's files into an existing directory; returns the vocabulary."""
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


def _byte_symbols() -> list[str]:
    """GPT-2's printable character for each byte, printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(256 - len(printable))]
