"""CLIP's byte-pair tokenizer: strings to the ids of one text tower."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int

from dear_jax.errors import UserError


class Tokenizer:
    """The tokenizer files of a checkpoint directory, read by transformers' `CLIPTokenizer`."""

    def __init__(self, directory: str | Path, context_length: int):
        from transformers import CLIPTokenizer  # slow to import, and only needed here

        directory = Path(directory)
        if not (directory / "tokenizer.json").exists() and not (directory / "vocab.json").exists():
            raise UserError(
                f"{directory}: no tokenizer found, expected tokenizer.json, or vocab.json and merges.txt, as they "
                "stand beside the weights of every CLIP checkpoint. Copy them there."
            )
        try:
            self._tokenizer = CLIPTokenizer.from_pretrained(str(directory), local_files_only=True)
        except Exception as error:  # the library raises whatever its parser raises
            raise UserError(f"{directory}: the tokenizer files cannot be read ({error}). Copy them again.") from error
        self.context_length = context_length

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "N T"]:
        """Ids of each text between the beginning and end marks, zero-padded to the context length.

        Raises:
            UserError: a text is longer than the context; it is named. CLIP would silently cut it.
        """
        rows = self._tokenizer(list(texts), padding=False, truncation=False)["input_ids"]
        ids = np.zeros((len(rows), self.context_length), np.int32)
        for text, row, target in zip(texts, rows, ids, strict=True):
            if len(row) > self.context_length:
                raise UserError(
                    f"The prompt {text!r} has {len(row)} tokens, the text tower takes {self.context_length}. Shorten "
                    "the class name or the template (config.data.template)."
                )
            target[: len(row)] = row
        return ids


def shorten(token_ids: Int[np.ndarray, "N T"], multiple: int = 8) -> Int[np.ndarray, "N t"]:
    """Cut zero-padded ids to the longest text, rounded up to `multiple`: the cut positions change nothing."""
    used = int(np.flatnonzero(token_ids.any(axis=0)).max()) + 1
    length = min(-(-used // multiple) * multiple, token_ids.shape[1])
    return token_ids[:, :length]
