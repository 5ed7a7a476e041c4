"""A role map (`RoleMap.to_dict`) as CSV tables."""

import csv
import io
from typing import Any


def heads_csv(role_map: dict[str, Any], effects: dict[str, Any] | None) -> str:
    """A row per head: layers from 1, heads from 0; with effects, the accuracy without it."""
    rows = []
    for index, row in enumerate(role_map["heads"]):
        for head, values in enumerate(row):
            rows.append(
                {
                    "layer": role_map["first_layer"] + index,
                    "head": head,
                    "role": role_map["roles"][index][head],
                    "entropy_bits": role_map["entropy"][index][head],
                    "cluster": _cluster_name(role_map, values["cluster"]),
                    "share": values["share"],
                    "explained": values["explained"],
                    "accuracy_without": "" if effects is None else round(effects["heads"][index][head], 3),
                }
            )
    return _csv(rows)


def descriptions_csv(role_map: dict[str, Any]) -> str:
    """A row per head and description, in the order of picking."""
    rows = [
        {
            "layer": role_map["first_layer"] + index,
            "head": head,
            "rank": rank,
            "description": description["text"],
            "variance": description["variance"],
            "cluster": _cluster_name(role_map, description["cluster"]),
        }
        for index, row in enumerate(role_map["heads"])
        for head, values in enumerate(row)
        for rank, description in enumerate(values["descriptions"], start=1)
    ]
    return _csv(rows)


def _cluster_name(role_map: dict[str, Any], place: int) -> str:
    return "none" if place < 0 else role_map["clusters"][place]["name"] or f"unnamed {place}"


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
