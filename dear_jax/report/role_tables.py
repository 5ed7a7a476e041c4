"""A role map (`RoleMap.to_dict`) as CSV tables."""

from typing import Any

from dear_jax.report.heads import concept_name
from dear_jax.report.text_tables import to_csv


def heads_csv(role_map: dict[str, Any], effects: dict[str, Any] | None) -> str:
    """A row per head: layers from 1, heads from 0; with effects, the accuracy without it."""
    rows: list[list[Any]] = [
        ["layer", "head", "role", "entropy_bits", "cluster", "share", "explained", "accuracy_without"]
    ]
    for index, row in enumerate(role_map["heads"]):
        for head, values in enumerate(row):
            rows.append(
                [
                    role_map["first_layer"] + index,
                    head,
                    role_map["roles"][index][head],
                    role_map["entropy"][index][head],
                    concept_name(role_map, values["cluster"]),
                    values["share"],
                    values["explained"],
                    "" if effects is None else round(effects["heads"][index][head], 3),
                ]
            )
    return to_csv(rows)


def descriptions_csv(role_map: dict[str, Any]) -> str:
    """A row per head and description, in the order of picking."""
    rows: list[list[Any]] = [["layer", "head", "rank", "description", "variance", "cluster"]]
    for index, row in enumerate(role_map["heads"]):
        for head, values in enumerate(row):
            for rank, description in enumerate(values["descriptions"], start=1):
                name = concept_name(role_map, description["cluster"])
                layer = role_map["first_layer"] + index
                rows.append([layer, head, rank, description["text"], description["variance"], name])
    return to_csv(rows)
