"""CLIP's byte-pair tokenizer: strings to the ids of one text tower.

Text is first cleaned as OpenAI's CLIP and open_clip clean it: repaired by ftfy, HTML entities decoded (twice), white
space joined, lower case. transformers' tokenizer leaves entities and typographic variants as they are. Where the two
differ, published results come from OpenAI's cleaning, so that is what is done here.
"""

import html
from collections.abc import Sequence
from pathlib import Path

import ftfy
import numpy as np
from jaxtyping import Int

from dear_jax.clip.checkpoints.hub import Files
from dear_jax.clip.config import LEGACY_EOS, CLIPConfig
from dear_jax.errors import UserError

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


class Tokenizer:
    """The tokenizer files of a checkpoint directory, read by transformers' `CLIPTokenizer`."""

    def __init__(self, directory: str | Path, context_length: int):
        from transformers import CLIPTokenizer  # slow to import, and only needed here

        try:
            self._tokenizer = CLIPTokenizer.from_pretrained(str(directory), local_files_only=True)
        except Exception as error:  # the library raises whatever its parser raises
            raise UserError(f"{directory}: the tokenizer files cannot be read ({error}). Copy them again.") from error
        self.context_length = context_length
        self.largest_id = max(self._tokenizer.get_vocab().values())
        self.end_id = int(self._tokenizer.eos_token_id)

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "texts T"]:
        """Ids of each text between the beginning and end marks, zero-padded to the context length.

        Raises:
            UserError: texts are longer than the context; each is named. CLIP would silently cut them.
        """
        cleaned = [clean(text) for text in texts]
        rows = self._tokenizer(cleaned, padding=False, truncation=False)["input_ids"] if cleaned else []
        self._refuse_overlong(texts, rows)
        ids = np.zeros((len(rows), self.context_length), np.int32)
        for row, target in zip(rows, ids, strict=True):
            target[: len(row)] = row
        return ids

    def _refuse_overlong(self, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> None:
        limit = self.context_length
        long = [f"{text!r} ({len(row)})" for text, row in zip(texts, rows, strict=True) if len(row) > limit]
        if long:
            more = f" and {len(long) - 10} more" if len(long) > 10 else ""
            raise UserError(
                f"{len(long)} prompts have more tokens than the {limit} of the text tower: "
                f"{', '.join(long[:10])}{more}. Shorten the class name in them or the template (config.data.template); "
                "or, where they describe heads, these lines of the bank (config.roles.bank)."
            )


def load(files: Files, config: CLIPConfig) -> Tokenizer:
    """The tokenizer of a checkpoint, checked against its text tower.

    Raises:
        UserError: no tokenizer files, unreadable ones, or those of another text tower.
    """
    found = {file: path for file in FILES if (path := files.find(file))}
    if "tokenizer.json" not in found and not {"vocab.json", "merges.txt"} <= set(found):
        raise files.missing(
            "a tokenizer: tokenizer.json, or vocab.json and merges.txt (OpenAI's and open_clip's CLIPs share those of "
            "openai/clip-vit-base-patch32)"
        )
    directory = next(iter(found.values())).parent
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
