"""CLIP's byte-pair tokenizer: strings to the ids of one text tower.

The ids are those of OpenAI's CLIP and open_clip for any text: it is repaired by ftfy, HTML entities are decoded
(twice), white space is joined, and what is lower case by then is cut into words by their very pattern. transformers'
tokenizer differs: it leaves entities and typographic variants as they are, and takes a character that its files name as
the padding token (OpenAI's and open_clip's pad with id 0, which is "!") for that token wherever it stands.
"""

import gzip
import hashlib
import html
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import regex  # knows \p{L}, as `re` does not
from jaxtyping import Int

from dear_jax.clip import byte_pairs
from dear_jax.clip.byte_pairs import Pair
from dear_jax.clip.checkpoints.hub import Files, read_json
from dear_jax.clip.config import LEGACY_EOS, CLIPConfig
from dear_jax.errors import UserError, count

MERGES, OPENAI = "merges.txt", "bpe_simple_vocab_16e6.txt.gz"
FORMS = (("tokenizer.json",), ("vocab.json", MERGES), (OPENAI,))  # the first that is whole counts
OPENAI_MERGES = 49152 - 256 - 2  # OpenAI's file lists more than its CLIPs use
MARKS = (("<start_of_text>", byte_pairs.BEGINNING), ("<end_of_text>", byte_pairs.END))  # open_clip's and OpenAI's names
SHOWN = 10  # prompts in a message
LONGEST_SHOWN = 100  # characters of a prompt in a message
_LARGEST = 1 << 24  # bytes of OpenAI's file, which has 3 million

_WORDS = regex.compile(
    "|".join(name for name, _ in MARKS) + r"|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    regex.IGNORECASE,
)


class Tokenizer:
    """The tokenizer files of a folder: `tokenizer.json`, or `vocab.json` and `merges.txt`, or OpenAI's own."""

    def __init__(self, directory: str | Path, context_length: int):
        """Read them.

        Raises:
            UserError: they cannot be read, or do not belong together.
        """
        folder = Path(directory)
        form = next((form for form in FORMS if all((folder / file).is_file() for file in form)), FORMS[0])
        source = " and ".join(str(folder / file) for file in form)
        try:
            ids, merges = _read(folder, form[0])
            begin, end = (ids[names[0] if names[0] in ids else names[1]] for names in MARKS)
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{source}: the tokenizer files cannot be read as CLIP's byte pairs ({type(error).__name__}: "
                f"{error}). Copy them again."
            ) from error
        _check(ids, merges, source)
        self.context_length = context_length
        self.largest_id = max(ids.values())
        self.begin_id, self.end_id = begin, end
        tokens = [*byte_pairs.SINGLE, *map("".join, merges)]  # without marks, whose names differ from file to file
        content = [merges, [ids[token] for token in tokens], begin, end]
        self.digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        self._ids = ids
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._words = {name: [mark] for (name, _), mark in zip(MARKS, (begin, end), strict=True)}
        # Beyond that a text has more tokens than the context, which need not be counted: no token is longer, and a
        # blank of the cleaned text stands between two.
        self._longest = (max(map(len, ids)) + 1) * (context_length + 1)

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "texts T"]:
        """Ids of each text between the beginning and end marks, zero-padded to the context length.

        Raises:
            UserError: texts are longer than the context; each is named. CLIP would silently cut them.
        """
        rows = [self._row(text) for text in texts]
        self._refuse_overlong(texts, rows)
        ids = np.zeros((len(rows), self.context_length), np.int32)
        for row, target in zip(rows, ids, strict=True):
            target[: len(row)] = row
        return ids

    def _row(self, text: str) -> list[int]:
        words = _WORDS.findall(clean(text)[: self._longest])
        return [self.begin_id, *(id for word in words for id in self._word(word)), self.end_id]

    def _word(self, word: str) -> list[int]:
        if word not in self._words:
            self._words[word] = [self._ids[token] for token in byte_pairs.split(word, self._ranks)]
        return self._words[word]

    def _refuse_overlong(self, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
        limit = self.context_length
        long = [
            f"{text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + '...'!r} ({len(row)})"
            for text, row in zip(texts, rows, strict=True)
            if len(row) > limit
        ]
        if long:
            more = f" and {len(long) - SHOWN} more" if len(long) > SHOWN else ""
            raise UserError(
                f"{count(len(long), 'prompt has', 'prompts have')} more tokens than the {limit} of the text tower: "
                f"{', '.join(long[:SHOWN])}{more}. Shorten the class name in them or the template "
                "(config.data.template); or, where they describe heads, these lines of the bank (config.roles.bank)."
            )


def find(files: Files) -> Path | None:
    """The folder with a checkpoint's tokenizer files, or None where it has none."""
    found = (paths for form in FORMS if all(paths := [files.find(file) for file in form]))
    return next((path.parent for paths in found for path in paths if path), None)


def load(files: Files, config: CLIPConfig) -> Tokenizer:
    """The tokenizer of a checkpoint, checked against its text tower.

    Raises:
        UserError: no tokenizer files, unreadable ones, or those of another text tower.
    """
    directory = find(files)
    if directory is None:
        raise files.missing(
            f"a tokenizer: tokenizer.json, or vocab.json and {MERGES}, or OpenAI's {OPENAI} (OpenAI's and open_clip's "
            "CLIPs share those of openai/clip-vit-base-patch32)"
        )
    tokenizer = Tokenizer(directory, config.context_length)
    end = tokenizer.largest_id if config.eos_token_id == LEGACY_EOS else config.eos_token_id
    if tokenizer.end_id != end or tokenizer.largest_id >= config.vocab_size:
        raise UserError(
            f"{directory}: the tokenizer's end of text is {tokenizer.end_id} and its largest id "
            f"{tokenizer.largest_id}, the text tower expects its end of text at {end} and ids below "
            f"{config.vocab_size}. Use the tokenizer files of this checkpoint."
        )
    return tokenizer


def clean(text: str) -> str:
    """What OpenAI's CLIP does to a text before it is split into tokens."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def shorten(token_ids: Int[np.ndarray, "texts T"], multiple: int = 8) -> Int[np.ndarray, "texts shortest"]:
    """Cut zero-padded ids to the longest text, rounded up to `multiple`: the cut positions change nothing."""
    used = int(np.flatnonzero(token_ids.any(axis=0)).max()) + 1
    length = min(-(-used // multiple) * multiple, token_ids.shape[1])
    return token_ids[:, :length]


def _read(folder: Path, file: str) -> tuple[dict[str, int], list[Pair]]:
    """The id of each token, and the merges."""
    if file == OPENAI:
        with gzip.open(folder / file) as stream:
            lines = stream.read(_LARGEST).decode().split("\n")[1 : OPENAI_MERGES + 1]
        merges = _pairs(lines)
        tokens = [*byte_pairs.SINGLE, *map("".join, merges), byte_pairs.BEGINNING, byte_pairs.END]
        return {token: index for index, token in enumerate(tokens)}, merges
    content = read_json(folder / file)
    if file == "tokenizer.json":
        model = content["model"]
        added = {token["content"]: token["id"] for token in content.get("added_tokens") or ()}
        return _ids({**model["vocab"], **added}), _pairs(model["merges"])
    lines = (folder / MERGES).read_text(encoding="utf-8").split("\n")
    return _ids(content), _pairs([line for line in lines if line.strip() and not line.startswith("#version")])


def _ids(vocabulary: Mapping[str, Any]) -> dict[str, int]:
    if not all(isinstance(token, str) and isinstance(value, int) and value >= 0 for token, value in vocabulary.items()):
        raise ValueError("its ids are no whole numbers, or its tokens no texts")
    return dict(vocabulary)


def _pairs(merges: Sequence[str | Sequence[str]]) -> list[Pair]:
    """Merges as texts with a blank between, or as newer files have them, as lists."""
    pairs = [tuple(merge.split() if isinstance(merge, str) else merge) for merge in merges]
    if wrong := next((pair for pair in pairs if len(pair) != 2 or not all(isinstance(p, str) for p in pair)), None):
        raise ValueError(f"a merge of {len(wrong)} parts, {' '.join(map(str, wrong))[:80]!r}")
    return [(first, second) for first, second in pairs]


def _check(ids: Mapping[str, int], merges: Sequence[Pair], source: str) -> None:
    """A vocabulary is the bytes, what merges make of them, and marks: where a merge is lost, texts fall to pieces."""
    made = {*byte_pairs.SINGLE, *map("".join, merges)}
    lost = [token for token in ids if token not in made and not (token.startswith("<") and token.endswith(">"))]
    unknown = [token for token in made if token not in ids]
    if lost or unknown:
        what = [f"{len(lost)} tokens that no merge makes, such as {lost[0]!r}"] if lost else []
        what += [f"no id for {len(unknown)} tokens, such as {unknown[0]!r}"] if unknown else []
        raise UserError(
            f"{source}: a vocabulary of {len(ids)} tokens and {len(merges)} merges do not belong together (expected "
            f"{len(byte_pairs.SINGLE)} bytes, a token for each merge, and marks): there are {' and '.join(what)}. Copy "
            "the tokenizer files of one checkpoint again."
        )
