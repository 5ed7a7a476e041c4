"""One record per head, gathered from the JSON dictionary of a role map and the accuracies under ablation."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from dear_jax.report.role_styles import RoleStyle, role_styles


@dataclasses.dataclass(frozen=True)
class Description:
    """A description that explains a head."""

    text: str
    variance: float  # share of the variance of the head's contribution, 0..1
    concept: str  # name of its cluster, "none" where it is in none
    bar: float  # percent of the largest variance among the descriptions of its head


@dataclasses.dataclass(frozen=True)
class Cause:
    """What of an attribute a head carries when two images exchange its contribution."""

    attribute: str
    carried: float  # share of the way, in logits, from the one image's value to the other's
    moved: float  # share of the pairs in which the predicted value becomes another


@dataclasses.dataclass(frozen=True)
class Head:
    """What the page says about one head."""

    row: int  # of the role map's lists
    layer: int  # counted from 1
    head: int  # counted from 0
    style: RoleStyle  # of its role
    entropy: float  # bits
    concept: str  # name of its dominant cluster
    share: float  # of its descriptions in that cluster
    explained: float  # share of its variance that all its descriptions explain
    descriptions: tuple[Description, ...]
    accuracy: float | None  # percent without this head; None: not measured
    change: float | None  # of the accuracy, in points
    margin: float | None  # change of the true class's margin, in 100 cosines; None: not measured
    p_value: float | None  # of so low an entropy by chance; None: roles do not rest on it
    causes: tuple[Cause, ...]  # of each attribute, none where they were not measured

    @property
    def name(self) -> str:
        """Layer and head as config.dear.mask.set writes them."""
        return f"{self.layer}.{self.head}"

    @property
    def anchor(self) -> str:
        """Name of the head's place in the page."""
        return f"head-{self.layer}-{self.head}"

    @property
    def main_cause(self) -> Cause | None:
        """What it carries most of."""
        return max(self.causes, key=lambda cause: cause.carried, default=None)

    @property
    def first(self) -> str:
        """The description that explains most."""
        return self.descriptions[0].text if self.descriptions else ""


def heads_of(role_map: Mapping[str, Any], ablation: Mapping[str, Any] | None) -> list[Head]:
    """The heads, layer after layer."""
    styles = role_styles(role_map["attributes"])
    return [
        _head(role_map, ablation, row, head, styles[role])
        for row, roles in enumerate(role_map["roles"])
        for head, role in enumerate(roles)
    ]


def entropy_name(role_map: Mapping[str, Any]) -> str:
    """What the roles rest on, by `config.roles.by`."""
    by_cause = role_map.get("settings", {}).get("by") == "cause"
    return "Entropy of what it carries" if by_cause else "Concept Entropy"


def concept_name(role_map: Mapping[str, Any], cluster: int) -> str:
    """Name of a cluster, "none" for -1; an unnamed one is known by its number."""
    return "none" if cluster < 0 else str(role_map["clusters"][cluster]["name"]) or f"unnamed {cluster}"


def _head(
    role_map: Mapping[str, Any], ablation: Mapping[str, Any] | None, row: int, head: int, style: RoleStyle
) -> Head:
    found = role_map["heads"][row][head]
    accuracy = None if ablation is None else float(ablation["heads"][row][head])
    largest = max((float(description["variance"]) for description in found["descriptions"]), default=0.0)
    return Head(
        row=row,
        layer=role_map["first_layer"] + row,
        head=head,
        style=style,
        entropy=float(role_map["entropy"][row][head]),
        concept=concept_name(role_map, found["cluster"]),
        share=float(found["share"]),
        explained=float(found["explained"]),
        descriptions=tuple(
            Description(
                text=description["text"],
                variance=float(description["variance"]),
                concept=concept_name(role_map, description["cluster"]),
                bar=100 * float(description["variance"]) / largest if largest > 0 else 0.0,
            )
            for description in found["descriptions"]
        ),
        accuracy=accuracy,
        change=None if accuracy is None or ablation is None else accuracy - float(ablation["accuracy"]),
        margin=None if ablation is None else float(ablation["head_margins"][row][head]) - float(ablation["margin"]),
        p_value=float(role_map["p_values"][row][head]) if "p_values" in role_map else None,
        causes=_causes(role_map, row, head),
    )


def _causes(role_map: Mapping[str, Any], row: int, head: int) -> tuple[Cause, ...]:
    if "causes" not in role_map:
        return ()
    found = role_map["causes"]
    rows = zip(found["attributes"], found["carried"][row][head], found["moved"][row][head], strict=True)
    return tuple(Cause(name, float(carried), float(moved)) for name, carried, moved in rows)
