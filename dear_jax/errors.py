"""The one exception for mistakes that a user can mend, and how its messages show a value."""

from collections.abc import Sequence
from typing import Any

SHOWN = 100  # characters of a value in a message


class UserError(ValueError):
    """Bad input: a key, a file, a folder or a shape that the user gave.

    The message is one paragraph that says what was expected, what was found and what to do. `main`
    prints it without a traceback and exits with code 2. Every other exception is a bug of this project
    and keeps its traceback.
    """

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message alone, as the command line does."""
        return [f"error: {self}"]


class UserErrors(UserError):
    """Several mistakes at once, each a text of its own for whoever counts them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems) + ".")
        self.problems = [f"{problem}." for problem in problems]


def count(number: int, one: str, many: str = "") -> str:
    """A number of things: 1 image, 2 images, 3 classes, 4 queries; other words than nouns are given as `many`."""
    if number == 1:
        return f"{number} {one}"
    consonant_y = one.endswith("y") and one[-2:-1] not in "aeiou"
    regular = f"{one[:-1]}ies" if consonant_y else f"{one}es" if one.endswith("s") else f"{one}s"
    return f"{number:,} {many or regular}"


def first_line(error: BaseException, lines: int = 1) -> str:
    """The beginning of what an error of another library says, which may go on for pages: its first lines in one."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(said[:lines]) or "no message"


def show(value: Any) -> str:
    """A value as messages have it: of a long one the beginning."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"
