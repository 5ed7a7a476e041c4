"""From class names to the sentences that the text tower reads."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from dear_jax.errors import UserError

SHOWN = 10  # pairs in a message


def prompts(class_names: Sequence[str], template: str) -> list[str]:
    """One prompt per class: the name, '_' replaced by a blank, at the {} of `template`.

    Raises:
        UserError: the template has no place for a name, or a name is empty, or has bytes of a folder's name that are no
            UTF-8, which no tokenizer reads.
    """
    if template.count("{}") != 1:
        raise UserError(
            f"config.data.template: expected a prompt with {{}} once, where the class name goes, such as "
            f"'a photo of a {{}}.'; found {template!r}."
        )
    names = [" ".join(name.replace("_", " ").split()) for name in class_names]
    for label, name in enumerate(names):
        if not name:
            raise UserError(f"Class {label} has an empty name, {class_names[label]!r}; give it one.")
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(f"The name of class {label}, {name!r}, is not UTF-8; rename the folder.")
    return [template.replace("{}", name) for name in names]


def check_distinct(class_names: Sequence[str], token_ids: Int[np.ndarray, "C T"]) -> None:
    """Refuse classes whose prompts are one to the text tower, whatever their names look like.

    Raises:
        UserError: the pairs.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for label, row in enumerate(token_ids):
        other = first.setdefault(row.tobytes(), label)
        if other != label:
            pairs.append(f"{other} ({class_names[other]!r}) and {label} ({class_names[label]!r})")
    if pairs:
        more = f"; and {len(pairs) - SHOWN} more pairs" if len(pairs) > SHOWN else ""
        raise UserError(
            f"Classes {'; '.join(pairs[:SHOWN])}{more} give the same prompt, so no text tells them apart; rename one, "
            "or merge them."
        )
