"""One record per head, gathered from the JSON dictionary of a role map and the accuracies under ablation."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Description:
    """A description that explains a head."""

    text: str
    variance: float  # share of the variance of the head's contribution, 0..1
    concept: str  # name of its cluster


@dataclasses.dataclass(frozen=True)
class Head:
    """What the page says about one head."""

    row: int  # of the role map's lists
    layer: int  # counted from 1
    head: int  # counted from 0
    role: str
    entropy: float  # bits
    concept: str  # name of its dominant cluster
    share: float  # of its descriptions in that cluster
    explained: float  # share of its variance that all its descriptions explain
    descriptions: tuple[Description, ...]
    accuracy: float | None  # percent without this head; None: not measured
    change: float | None  # of the accuracy, in points

    @property
    def name(self) -> str:
        """Layer and head as config.mask.set writes them."""
        return f"{self.layer}.{self.head}"

    @property
    def anchor(self) -> str:
        """Name of the head's place in the page."""
        return f"head-{self.layer}-{self.head}"

    @property
    def first(self) -> str:
        """The description that explains most."""
        return self.descriptions[0].text if self.descriptions else ""


def heads_of(role_map: Mapping[str, Any], ablation: Mapping[str, Any] | None) -> list[Head]:
    """The heads, layer after layer."""
    return [
        _head(role_map, ablation, row, head)
        for row in range(len(role_map["roles"]))
        for head in range(len(role_map["roles"][row]))
    ]


def concept_name(role_map: Mapping[str, Any], cluster: int) -> str:
    """Name of a cluster; an unnamed one is known by its number."""
    return str(role_map["clusters"][cluster]["name"]) or f"unnamed {cluster}"


def _head(role_map: Mapping[str, Any], ablation: Mapping[str, Any] | None, row: int, head: int) -> Head:
    found = role_map["heads"][row][head]
    accuracy = None if ablation is None else float(ablation["heads"][row][head])
    return Head(
        row=row,
        layer=role_map["first_layer"] + row,
        head=head,
        role=role_map["roles"][row][head],
        entropy=float(role_map["entropy"][row][head]),
        concept=concept_name(role_map, found["cluster"]),
        share=float(found["share"]),
        explained=float(found["explained"]),
        descriptions=tuple(
            Description(d["text"], float(d["variance"]), concept_name(role_map, d["cluster"]))
            for d in found["descriptions"]
        ),
        accuracy=accuracy,
        change=None if accuracy is None or ablation is None else accuracy - float(ablation["accuracy"]),
    )
