"""Class names as a user gives them: in one text, or in a file."""

import os
from pathlib import Path

from dear_jax.errors import UserError


def parse(text: str) -> tuple[str, ...]:
    """The names in "cat,dog", or in a file `*.txt` with a name per line, where a name may hold commas.

    Raises:
        UserError: the file cannot be read, or has no name in it.
    """
    if not text.strip().endswith(".txt"):
        return tuple(name.strip() for name in text.split(","))
    path = Path(os.path.expanduser(text.strip()))
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
