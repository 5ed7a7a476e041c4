"""Class names as a user gives them: in one text, or in a file."""

import os
from pathlib import Path

from dear_jax.errors import UserError

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".xlsx", ".names", ".list")  # what may hold names


def parse(text: str) -> tuple[str, ...]:
    """The names in "cat,dog", or in a file `*.txt` with a name per line, where a name may hold commas.

    Raises:
        UserError: the file cannot be read, has no name in it, or is of another kind.
    """
    path = Path(os.path.expanduser(text.strip()))
    if "," not in text and path.suffix.lower() != ".txt" and (path.suffix.lower() in TABLES or os.path.isfile(path)):
        raise UserError(
            f"config.classes: {text!r} is the name of a file, not of classes. Give the names themselves, such as "
            "cat,dog, or a text file *.txt with a name per line."
        )
    if not text.strip().endswith(".txt"):
        return tuple(name.strip() for name in text.split(","))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"config.classes: the file {path} cannot be read: {reason}. Give the names themselves, such as cat,dog, "
            "or a text file with a name per line."
        ) from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise UserError(f"config.classes: {path} holds no class name. Write one per line.")
    return names
