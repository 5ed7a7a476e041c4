"""Two role maps side by side: which head of the one is which of the other, and how far they agree.

In: the JSON dictionaries of two role maps. Maps of one backbone and the same layers are matched head by head; others by
function, since a head's place means nothing in another network: such that all pairs' main concepts and descriptions
overlap as much as they can.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from dear_jax.errors import UserError
from dear_jax.report.heads import Head, heads_of


@dataclasses.dataclass(frozen=True)
class Pair:
    """A head of the first map and its counterpart; None where the other map has fewer heads."""

    head: Head
    other: Head | None
    overlap: float  # share of what the concepts of their descriptions explain that both have, 0..1


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What there is to say of two maps."""

    name: str  # of the other map
    backbone: str  # of the other map
    by_place: bool  # whether heads were matched by layer and number
    pairs: tuple[Pair, ...]
    heads: int  # of the other map
    rand_index: float  # adjusted, of the roles of all pairs: 1 the same, 0 as by chance

    @property
    def matched(self) -> int:
        """Heads with a counterpart."""
        return sum(pair.other is not None for pair in self.pairs)

    @property
    def alike(self) -> int:
        """Pairs of one role."""
        return sum(pair.other is not None and pair.other.style.role == pair.head.style.role for pair in self.pairs)


def check(other: Mapping[str, Any], name: str) -> None:
    """Refuse a map that has roles and nothing of what they rest on, such as one written by hand.

    Raises:
        UserError: what it lacks.
    """
    missing = [key for key in ("entropy", "heads", "clusters") if key not in other]
    if missing:
        raise UserError(
            f"config.roles.compare: {name} lacks {', '.join(missing)}, so that only its roles are known. Give a map "
            "that the job find_roles has made."
        )


def compare(role_map: Mapping[str, Any], other: Mapping[str, Any], name: str) -> Comparison:
    """Match the heads of two maps.

    Args:
        role_map: the map of the page.
        other: the other one.
        name: of the other one, such as its path.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import
    from sklearn.metrics import adjusted_rand_score

    heads, others = heads_of(role_map, None), heads_of(other, None)
    concepts = list(dict.fromkeys(c["name"] for one in (role_map, other) for c in one["clusters"] if c["name"]))
    overlap = np.minimum(_spread(heads, concepts)[:, None], _spread(others, concepts)[None]).sum(-1)
    by_place = role_map["fingerprint"] == other["fingerprint"] and [h.name for h in heads] == [h.name for h in others]
    if by_place:
        counterpart = {place: place for place in range(len(heads))}
    else:
        rows, columns = linear_sum_assignment(-overlap)
        counterpart = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    pairs = [
        Pair(head, others[place], float(overlap[row, place]))
        if (place := counterpart.get(row)) is not None
        else Pair(head, None, 0.0)
        for row, head in enumerate(heads)
    ]
    roles = [(pair.head.style.role, pair.other.style.role) for pair in pairs if pair.other is not None]
    index = float(adjusted_rand_score(*zip(*roles, strict=True)))
    return Comparison(name, str(other["backbone"]), by_place, tuple(pairs), len(others), index)


def _spread(heads: list[Head], concepts: list[str]) -> Float[np.ndarray, "heads concepts"]:
    """Share of named concepts in what a head's descriptions explain; what has no name is never another map's."""
    found = np.zeros((len(heads), len(concepts)))
    for row, head in enumerate(heads):
        total = sum(description.variance for description in head.descriptions) or 1.0
        for description in head.descriptions:
            if description.concept in concepts:
                found[row, concepts.index(description.concept)] += description.variance / total
    return found
