"""English for the embedded world: phrases that name some attributes, captions that wrap phrases.

The same phrases name the classes of downstream tasks, so the text tower has met every kind of class name.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from dear_jax.data.world.scenes import ATTRIBUTES, NAMES

TEMPLATES = (
    "a photo of a {}.", "a photo of a {}", "a photo of the {}.", "a picture of a {}.", "an image of a {}.",
    "a {}.", "{}", "there is a {}.", "this is a {}.",
)  # fmt: skip

# What a caption mentions: (share of captions, attributes it may mention, chance of each of them).
MENTIONS: tuple[tuple[float, tuple[str, ...], float], ...] = (
    (0.35, ("color", "shape", "texture"), 0.8),
    (0.15, ("color", "texture", "object"), 0.7),
    (0.15, ("shape", "object"), 0.8),
    (0.35, NAMES, 0.5),
)


def phrase(attributes: Mapping[str, str]) -> str:
    """Name what is given: {"color": "red", "shape": "heart"} is "red heart".

    The noun is the object if given, else the shape, else "thing"; a shape beside an object becomes
    "heart shaped car". Position and background follow: "thing at the top left on a sand background".
    """
    unknown = set(attributes) - set(NAMES)
    if unknown:
        raise ValueError(f"attributes: expected some of {NAMES}, got {sorted(unknown)}")
    words = [attributes[name] for name in ("texture", "color") if name in attributes]
    if "object" in attributes:
        words += [f"{attributes['shape']} shaped"] if "shape" in attributes else []
        words += [attributes["object"]]
    else:
        words += [attributes.get("shape", "thing")]
    if "position" in attributes:
        words += [f"at the {attributes['position']}"]
    if "background" in attributes:
        words += [f"on a {attributes['background']} background"]
    return " ".join(words)


def attribute_phrases(attribute: str) -> tuple[str, ...]:
    """One phrase per value of one attribute, naming nothing else."""
    return tuple(phrase({attribute: value}) for value in ATTRIBUTES[attribute])


def vocabulary() -> tuple[str, ...]:
    """Every word of every caption, sorted."""
    texts = [text for name in NAMES for text in attribute_phrases(name)] + list(TEMPLATES)
    texts += [phrase({"shape": "star", "object": "car"})]
    return tuple(sorted({word.strip(".{}") for text in texts for word in text.split()} - {""}))


def draw_captions(labels: np.ndarray, generator: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """One true caption per scene, and what it mentions.

    Args:
        labels: int [N, 6], as in `Scenes`.
        generator: draws the templates and the attributes.

    Returns:
        The captions, and bool [N, 6]: which attributes each mentions (at least one).
    """
    kinds = generator.choice(len(MENTIONS), len(labels), p=[share for share, _, _ in MENTIONS])
    mentioned = np.zeros(labels.shape, bool)
    for kind, (_, names, chance) in enumerate(MENTIONS):
        columns = [NAMES.index(name) for name in names]
        draws = generator.random((len(labels), len(columns)))
        chosen = (draws < chance) | (draws == draws.min(1, keepdims=True))
        mentioned[np.ix_(kinds == kind, columns)] = chosen[kinds == kind]
    templates = generator.integers(len(TEMPLATES), size=len(labels))
    return [
        TEMPLATES[template].format(phrase(_named(row, mask)))
        for row, mask, template in zip(labels, mentioned, templates, strict=True)
    ], mentioned


def _named(row: Sequence[int], mask: Sequence[bool]) -> dict[str, str]:
    return {name: ATTRIBUTES[name][value] for name, value, named in zip(NAMES, row, mask, strict=True) if named}
