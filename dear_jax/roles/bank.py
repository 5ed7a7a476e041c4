"""The bank of descriptions that heads are explained with, and the phrases that name attributes.

A bank is a text file: one description per line, lines that start with # are comments. `bank.txt` is for any CLIP
that reads English; `bank_embedded.txt` is in the words of the embedded CLIP, made by `python -m dear_jax.roles.bank`.
"""

from collections.abc import Sequence
from pathlib import Path

from etils import epath

from dear_jax.data.world import captions
from dear_jax.data.world.scenes import NAMES
from dear_jax.errors import UserError
from dear_jax.files import json_files, storage

ENGLISH = Path(__file__).parent / "bank.txt"
EMBEDDED = Path(__file__).parent / "bank_embedded.txt"
Anchors = dict[str, tuple[str, ...]]  # name of a concept -> phrases that mean it

# A cluster of descriptions is named after the concept whose phrases are nearest; the names beside the five core
# attributes keep what is neither of them from being called by one of them.
ENGLISH_ANCHORS: Anchors = {
    "color": (
        "a red object",
        "blue colors",
        "something green and yellow",
        "a palette of purple tones",
        "black and white",
    ),
    "shape": ("a round shape", "a triangular object", "curved lines", "a square form", "a long thin outline"),
    "texture": ("a rough texture", "a striped pattern", "a smooth surface", "woven fabric", "a dotted surface"),
    "object": ("a chair", "a tool on a table", "a vehicle", "an everyday household object", "a musical instrument"),
    "position": (
        "on the left side",
        "in the top right corner",
        "in the center of the image",
        "seen from above",
        "below",
    ),
    "place": ("a photo taken in a city", "a mountain landscape", "an indoor room", "a famous country"),
    "person": ("a photo of a woman", "a group of people", "a child's face"),
    "animal": ("a photo of an animal", "a dog", "a bird in flight"),
    "emotion": ("a joyful mood", "a sad atmosphere", "a feeling of fear"),
    "style": ("an oil painting", "a vintage photograph", "a cartoon drawing"),
    "weather": ("a rainy day", "snowfall in winter", "a bright sunny sky"),
    "count": ("two of them", "five objects", "a large number of items"),
    "text": ("a sign with letters", "the letter A", "a handwritten word"),
    "food": ("a plate of food", "fresh fruit", "a slice of cake"),
    "action": ("someone running", "a person playing a sport", "people dancing"),
}


def load(path: epath.PathLike) -> tuple[str, ...]:
    """The descriptions of a bank.

    Raises:
        UserError: unreadable, an empty line or a description that stands twice (with its line), fewer than two.
    """
    try:
        lines = storage.to_path(path).read_text().splitlines()
    except storage.failures(UnicodeDecodeError) as error:
        raise UserError(
            f"config.roles.bank: {path} cannot be read ({error}). Give a UTF-8 text file with one description per line."
        ) from error
    texts = [(number, line.strip()) for number, line in enumerate(lines, start=1) if not line.startswith("#")]
    seen: dict[str, int] = {}
    problems = []
    for number, text in texts:
        first = seen.setdefault(text.lower(), number)
        if not text:
            problems.append(f"line {number} is empty")
        elif first != number:
            problems.append(f"line {number} repeats {text!r} of line {first}")
    if problems:
        more = f", and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UserError(f"config.roles.bank: {path}: {'; '.join(problems[:5])}{more}. Remove these lines.")
    if len(texts) < 2:
        raise UserError(
            f"config.roles.bank: {path} holds {len(texts)} description{'' if len(texts) == 1 else 's'}. A bank needs "
            "hundreds, so that heads can be told apart."
        )
    return tuple(text for _, text in texts)


def load_anchors(path: epath.PathLike) -> Anchors:
    """Phrases per concept from a JSON file {"NAME": ["phrase", ...], ...}."""
    try:
        values = json_files.parse(storage.to_path(path).read_bytes())
        valid = (
            isinstance(values, dict)
            and values
            and all(
                isinstance(phrases, list) and phrases and all(isinstance(phrase, str) for phrase in phrases)
                for phrases in values.values()
            )
        )
    except storage.failures(ValueError) as error:
        raise UserError(f"config.roles.anchors: {path} cannot be read as JSON ({error}).") from error
    if not valid:
        raise UserError(f'config.roles.anchors: {path}: expected {{"NAME": ["phrase", ...], ...}}.')
    return {name: tuple(phrases) for name, phrases in values.items()}


def embedded_anchors() -> Anchors:
    """Every attribute of the embedded world, the background too, by the phrases of its values."""
    return {name: captions.attribute_phrases(name) for name in NAMES}


def with_attributes(anchors: Anchors, attributes: Sequence[str]) -> Anchors:
    """Add attributes that have no phrases yet: their own name is their phrase."""
    return anchors | {name: (name,) for name in attributes if name not in anchors}


def embedded_bank() -> list[str]:
    """Every value of every attribute in every template of the captions; each names one thing alone."""
    phrases = [text for name in NAMES for text in captions.attribute_phrases(name)]
    return [template.format(text) for text in phrases for template in captions.TEMPLATES]


if __name__ == "__main__":
    header = "# Phrases of the embedded world, made by `python -m dear_jax.roles.bank`.\n"
    EMBEDDED.write_text(header + "".join(f"{text}\n" for text in embedded_bank()))
