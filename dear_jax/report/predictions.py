"""What a classifier says about images: as lines for the screen and as CSV.

`opinions` are float [C] per name: `WHOLE` (all paths fused), `ZERO_SHOT`, then each path by its name.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from dear_jax.report.tables import Numbers

WHOLE, ZERO_SHOT = "all paths", "zero-shot CLIP"
Opinions = Mapping[str, np.ndarray]


def describe(image: str, class_names: Sequence[str], opinions: Opinions) -> str:
    """Two lines: the prediction, and what zero-shot CLIP and each path would say."""
    said = {name: _best(class_names, values) for name, values in opinions.items()}
    label, probability = said.pop(WHOLE)
    others = ", ".join(f"{name}: {label} {100 * p:.0f} %" for name, (label, p) in said.items())
    return f"{image}: {label} {100 * probability:.1f} %\n    {others}"


def summary(labels: Iterable[str], at_most: int = 10) -> str:
    """How many images were given to which class, the most frequent first."""
    counts = Counter(labels)
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(at_most))
    parts = [f"{count} {label}" for label, count in counts.most_common(at_most)]
    return ", ".join([*parts, *([f"{rest} of other classes"] if rest else [])])


def header(names: Sequence[str], *more: str) -> list[str]:
    """The columns of `row`; `names` are those of the opinions, `more` what else is known of an image."""
    pairs = [(f"{name}", f"{name} probability") for name in names if name != WHOLE]
    return ["image", *more, "prediction", "probability", *(column for pair in pairs for column in pair), "problem"]


def row(image: str, class_names: Sequence[str], opinions: Opinions, *more: str) -> list[str]:
    """The top class and its probability: of the whole, of zero-shot CLIP, of each path."""
    _, *cells = record(image, class_names, opinions).values()
    return [image, *more, *(number(cell) if isinstance(cell, float) else cell for cell in cells), ""]


def record(image: str, class_names: Sequence[str], opinions: Opinions) -> dict[str, str | float]:
    """The same by its columns, without the one for problems."""
    said = {name: _best(class_names, values) for name, values in opinions.items()}
    order = [WHOLE, *(name for name in said if name != WHOLE)]
    return dict(zip(header(order), (image, *(cell for name in order for cell in said[name])), strict=False))


def table(caption: str, class_names: Sequence[str], rows: Iterable[tuple[str, Opinions]]) -> Numbers:
    """A row per image: the prediction, then what zero-shot CLIP and each path say, as class and percent."""
    cells, names = [], [WHOLE]
    for image, opinions in rows:
        names = [WHOLE, *(name for name in opinions if name != WHOLE)]
        said = [_best(class_names, opinions[name]) for name in names]
        cells.append((image, *(f"{label} {100 * probability:.1f} %" for label, probability in said)))
    return Numbers(caption, ("image", "prediction", *names[1:]), tuple(cells))


def bad_row(image: str, names: Sequence[str], problem: str, *more: str) -> list[str]:
    """The row of an image that could not be read."""
    return [image, *more, *[""] * (2 * len(names)), problem]


def accuracies(right: Mapping[str, Sequence[bool]]) -> str:
    """In percent, by name: of how many images what was said is right."""
    return ", ".join(f"{name} {100 * sum(of) / len(of):.1f} %" for name, of in right.items())


def number(probability: float) -> str:
    """Six significant digits."""
    return f"{probability:.6g}"


def _best(class_names: Sequence[str], values: np.ndarray) -> tuple[str, float]:
    index = int(values.argmax())
    return class_names[index], float(values[index])
