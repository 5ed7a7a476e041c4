"""How a method looks in figures: color, marker and dashes, the same in every figure.

Colors are those of Okabe and Ito (2008) without the yellow, which is faint on white, and with a gray. Methods of one
color have different markers, so that no figure needs color vision.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from dear_jax.report.role_styles import ATTRIBUTE_COLORS

COLORS = (*ATTRIBUTE_COLORS[:6], "#7F7F7F")
MARKERS = "osD^vPX*<>"  # their number and that of the colors have no factor in common: 70 different pairs
DASHES = ("-", (0, (6, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))


@dataclasses.dataclass(frozen=True)
class Look:
    """The looks of a row of a table."""

    color: str
    marker: str
    dashes: Any  # matplotlib's linestyle
    bar: str  # color of a bar, whose label tells the rows of one method apart


REFERENCE = Look("#000000", "h", "--", "#000000")  # zero-shot CLIP, ours and the published
Looks = Mapping[str, Look]  # by the name of a row


def look(number: int) -> Look:
    """The looks number 0, 1, 2, ...."""
    color = COLORS[number % len(COLORS)]
    return Look(color, MARKERS[number % len(MARKERS)], DASHES[number % len(DASHES)], color)


def complete(looks: Looks | None, names: Iterable[str]) -> dict[str, Look]:
    """The looks of these rows; those that have none get what is free, and the same again once nothing is."""
    found = {name: looks[name] for name in names if name in looks} if looks else {}
    taken = {(one.color, one.marker) for one in found.values()}
    every = [look(number) for number in range(len(COLORS) * len(MARKERS))]
    free = itertools.cycle([one for one in every if (one.color, one.marker) not in taken] or every)
    return {name: found[name] if name in found else next(free) for name in names}
