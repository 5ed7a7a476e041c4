"""A role map (`RoleMap.to_dict`) as CSV tables."""

from typing import Any

from dear_jax.report.heads import concept_name
from dear_jax.report.text_tables import to_csv


def heads_csv(role_map: dict[str, Any], effects: dict[str, Any] | None) -> str:
    """A row per head: layers from 1, heads from 0; with effects, accuracy and margin without it.

    Where roles rest on chance, its p-value; where causes were measured, what it carries of each attribute, as shares.
    """
    causes = role_map.get("causes", {"attributes": []})
    head_of_table = ["layer", "head", "role", "entropy_bits", "cluster", "share", "explained", "accuracy_without"]
    head_of_table += ["margin_without", "p_value", *(f"carried_{name}" for name in causes["attributes"])]
    rows: list[list[Any]] = [head_of_table]
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
                    "" if effects is None else round(effects["head_margins"][index][head], 4),
                    role_map["p_values"][index][head] if "p_values" in role_map else "",
                    *(causes["carried"][index][head] if "carried" in causes else ()),
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
