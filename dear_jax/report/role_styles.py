"""How a role looks: color, pattern and a short code, so that figures and pages can be read without color vision.

The colors of the attributes are those of Okabe and Ito (2008); a code ("Co", "Te") or a pattern says the same again.
"""

import dataclasses
import itertools
from collections.abc import Sequence

ATTRIBUTE_COLORS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442")
ATTRIBUTE_HATCHES = ("\\\\\\", "|||", "xxx", "---", "ooo", "+++", "***")


@dataclasses.dataclass(frozen=True)
class RoleStyle:
    """One role's looks and words."""

    number: int  # its place among the roles of a map
    role: str  # as in the role map: "generalization", "mixed", "other", "attribute:NAME"
    name: str  # for people: "generalization", "color"
    code: str  # two letters or more, unique among the roles of a map
    color: str  # background, "#RRGGBB"
    text_color: str  # black or white, the one that contrasts more
    hatch: str  # of matplotlib
    pattern: str  # of the page: "plain", "stripes" or "dots"
    meaning: str  # a few words, where the name does not say it

    @property
    def specialist(self) -> bool:
        """Whether a head of it is about one concept."""
        return self.role == "other" or self.role.startswith("attribute:")

    @property
    def css_class(self) -> str:
        """The classes that give an element of a page its color and pattern."""
        return f"r{self.number} {self.pattern}"


def role_styles(attributes: Sequence[str]) -> dict[str, RoleStyle]:
    """Role -> its looks: the attributes first, then other specialists, mixed and generalization heads."""
    looks = itertools.cycle(zip(ATTRIBUTE_COLORS, ATTRIBUTE_HATCHES, strict=True))
    rows = [
        (f"attribute:{name}", name, color, hatch, "plain", "")
        for name, (color, hatch) in zip(attributes, looks, strict=False)
    ]
    rows += [
        ("other", "other specialist", "#4D4D4D", "...", "dots", "one concept, but none of the attributes"),
        ("mixed", "mixed", "#B3B3B3", "///", "stripes", "a few concepts"),
        ("generalization", "generalization", "#F2F2F2", "", "plain", "many concepts"),
    ]
    codes = _codes([name for _, name, *_ in rows])
    return {
        role: RoleStyle(number, role, name, code, color, text_color(color), hatch, pattern, meaning)
        for number, ((role, name, color, hatch, pattern, meaning), code) in enumerate(zip(rows, codes, strict=True))
    }


def text_color(background: str) -> str:
    """Black or white, whichever contrasts more with `background` (relative luminance as in WCAG 2)."""
    channels = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 0.05 * 1.05 else "#FFFFFF"


def _codes(names: Sequence[str]) -> list[str]:
    """The shortest beginnings of at least two letters that tell the names apart."""
    codes = []
    for name in names:
        others = [other.lower() for other in names if other != name]
        lengths = range(2, len(name) + 1)
        length = next((n for n in lengths if not any(o.startswith(name[:n].lower()) for o in others)), len(name))
        codes.append(name[:length].capitalize())
    return codes
