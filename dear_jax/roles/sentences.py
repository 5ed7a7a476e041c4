"""What descriptions mean, as unit vectors: by a sentence encoder, the backbone's own text tower, or a lexicon.

All vectors are taken relative to the mean over the bank: what every description shares tells no concepts apart, and in
CLIP's text space it is most of each vector.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Float

from dear_jax.clip import text
from dear_jax.clip import tokenizer as tokenizers
from dear_jax.clip.checkpoints.weights import EMBEDDED, Backbone
from dear_jax.data.world.scenes import ATTRIBUTES, NAMES
from dear_jax.errors import UserError, first_line
from dear_jax.files import progress_bar
from dear_jax.parallel import processes
from dear_jax.roles.bank import Anchors
from dear_jax.roles.concepts import unit

AUTO = "auto"
TEXT_TOWER = "text_tower"
LEXICON = "lexicon"  # of the embedded world: which attributes a phrase names, and their values
VALUE_LENGTH = 0.5  # of the part that tells values of one attribute apart, beside 1 for the attribute
SBERT = "sentence-transformers/all-MiniLM-L6-v2"
BATCH = 500  # texts at a time

Encode = Callable[[Sequence[str]], Float[np.ndarray, "texts width"]]


@dataclasses.dataclass(frozen=True)
class SentenceEncoder:
    """Texts to vectors, and what to call it in the role map."""

    key: str  # by which `choose` gives it: TEXT_TOWER, LEXICON, or the model's name or folder
    name: str
    encode: Encode


def preferred(name: str, backbone: Backbone) -> str:
    """Key of the encoder that `choose` takes where it can be had."""
    if name != AUTO:
        return name
    return LEXICON if backbone.name in EMBEDDED else SBERT


def choose(name: str, backbone: Backbone) -> SentenceEncoder:
    """The encoder of `config.roles.sentence_encoder`.

    `auto` is the lexicon for the embedded CLIP, whose words are all known; else SBERT's all-MiniLM-L6-v2 where
    sentence-transformers is installed and the model is there or can be fetched, else the text tower, and says so.
    `lexicon` and `text_tower` are those; any other name is a model of sentence-transformers.

    Raises:
        UserError: a model that was asked for by name cannot be had.
    """
    key = preferred(name, backbone)
    own = SentenceEncoder(TEXT_TOWER, f"text tower of {backbone.name}", lambda texts: encode_texts(backbone, texts))
    if key == TEXT_TOWER:
        return own
    if key == LEXICON:
        return SentenceEncoder(LEXICON, "lexicon of the embedded world", encode_by_lexicon)
    try:
        return _sentence_transformer(key)
    except Exception as error:  # the library raises whatever its parts raise
        if name != AUTO:
            raise UserError(
                f"config.roles.sentence_encoder is {name!r}, which sentence-transformers cannot load "
                f"({_reason(error)}). {_way_out(error)} Or use text_tower."
            ) from error
        print(
            f"Sentence encoder: {own.name}, because {SBERT} cannot be loaded ({_reason(error)}). To have it: "
            f"{_way_out(error)}",
            flush=True,
        )
        return own


def _reason(error: BaseException) -> str:
    """What went wrong, in a line; of an import the error at its root, which libraries report as another."""
    if isinstance(error, ImportError):
        while error.__cause__ or (error.__context__ and not error.__suppress_context__):
            error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return f"{type(error).__name__}: {first_line(error)}"


def _way_out(error: BaseException) -> str:
    """What the user can do about it."""
    if isinstance(error, ModuleNotFoundError) and error.name == "sentence_transformers":
        return "Install it with pip install -e '.[roles]'."
    if isinstance(error, ImportError):
        return (
            "The installed packages do not fit together: pip install --upgrade -e '.[roles]'; where the reason speaks "
            "of torchvision, install the release that belongs to the installed torch, or pip uninstall torchvision."
        )
    return "Give the folder of a model (config.roles.sentence_encoder), or the machine access to huggingface.co."


def embed(
    encoder: SentenceEncoder, bank: Sequence[str], anchors: Anchors
) -> tuple[Float[np.ndarray, "descriptions width"], dict[str, Float[np.ndarray, "width"]]]:
    """Unit vectors of the bank relative to its mean; and one per concept, of the mean over its phrases."""
    phrases = [phrase for group in anchors.values() for phrase in group]
    vectors = unit(encoder.encode([*bank, *phrases]))
    vectors = unit(vectors - vectors[: len(bank)].mean(0, keepdims=True))
    rest = iter(vectors[len(bank) :])
    concepts = {name: unit(np.mean([next(rest) for _ in group], axis=0)) for name, group in anchors.items()}
    return vectors[: len(bank)], concepts


def encode_texts(backbone: Backbone, texts: Sequence[str]) -> Float[np.ndarray, "texts d"]:
    """Unit CLIP text features."""
    ids = tokenizers.shorten(backbone.tokenizer(texts))
    params = jax.device_put(backbone.params)
    encode = jax.jit(lambda params, ids: text.encode(params, backbone.config, ids))
    starts = progress_bar.bar(
        range(0, len(ids), BATCH),
        desc="Encoding descriptions",
        unit="batch",
        delay=progress_bar.DELAY,
        disable=not processes.is_first(),
    )
    parts = [np.asarray(encode(params, ids[start : start + BATCH])) for start in starts]
    return unit(np.concatenate(parts))


def encode_by_lexicon(texts: Sequence[str]) -> Float[np.ndarray, "texts width"]:
    """What a sentence encoder would know of the embedded world's few words: red and blue are both colors."""
    words = [(column, value) for column, name in enumerate(NAMES) for value in ATTRIBUTES[name]]
    vectors = np.zeros((len(texts), len(NAMES) + len(words)), np.float32)
    for row, text_of_row in enumerate(texts):
        padded = f" {text_of_row.strip('.').lower()} "
        for place, (column, value) in enumerate(words):
            if f" {value} " in padded:
                vectors[row, column] = 1.0
                vectors[row, len(NAMES) + place] = VALUE_LENGTH
    return vectors


def _sentence_transformer(name: str) -> SentenceEncoder:
    from sentence_transformers import SentenceTransformer  # optional, and slow to import

    model = SentenceTransformer(os.path.expanduser(name), device="cpu")
    return SentenceEncoder(
        name, name, lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False), np.float32)
    )
