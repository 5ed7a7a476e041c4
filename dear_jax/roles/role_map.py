"""The role map: what each attention head of the deeper layers does, as a small JSON file.

A role is one of the strings "generalization", "mixed", "other" (a specialist of none of the attributes, treated
like a generalization head) and "attribute:NAME" (METHOD.md section 1, step 5).
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dear_jax.errors import UserError

GENERALIZATION = "generalization"
MIXED = "mixed"
OTHER = "other"
FORMAT = "dear_jax role map, version 1"

Roles = tuple[tuple[str, ...], ...]  # [layer J..L][head]


def attribute_role(name: str) -> str:
    """The role of a head that specialises in attribute `name`."""
    return f"attribute:{name}"


def role_names(attributes: Sequence[str]) -> tuple[str, ...]:
    """Every role that a head may have."""
    return (GENERALIZATION, MIXED, OTHER, *map(attribute_role, attributes))


@dataclasses.dataclass(frozen=True)
class RoleMap:
    """Roles of the heads of layers first_layer..L of one backbone."""

    backbone: str
    fingerprint: str  # of the backbone's parameters (clip.weights.fingerprint)
    first_layer: int  # J, counted from 1
    attributes: tuple[str, ...]
    roles: Roles
    details: dict[str, Any] = dataclasses.field(default_factory=dict)  # entropies, descriptions, settings ...

    def save(self, path: str | Path) -> None:
        """Write the map as JSON."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        Path(path).write_text(json.dumps({"format": FORMAT} | fields | self.details, indent=1) + "\n")


_FIELDS = ("backbone", "fingerprint", "first_layer", "attributes", "roles")


def load(path: str | Path) -> RoleMap:
    """Read and validate a role map.

    Raises:
        UserError: the file is absent, not JSON, lacks a field, or a head has an unknown role; it says which.
    """
    try:
        values = json.loads(Path(path).read_text())
    except OSError as error:
        raise UserError(f"Role map {path} cannot be read ({error.strerror}). Give the path of a role map.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"Role map {path} is not valid JSON ({error}). Write it again.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise UserError(f"{path} is not a role map: expected format {FORMAT!r}, found {found!r}.")
    missing = [name for name in _FIELDS if name not in values]
    if missing:
        raise UserError(f"Role map {path} lacks {', '.join(missing)}. Write it again.")
    details = {name: value for name, value in values.items() if name not in (*_FIELDS, "format")}
    attributes = tuple(values["attributes"])
    roles = _read_roles(values["roles"], attributes, path)
    return RoleMap(
        str(values["backbone"]),
        str(values["fingerprint"]),
        int(values["first_layer"]),
        attributes,
        roles,
        details,
    )


def _read_roles(rows: Any, attributes: Sequence[str], path: str | Path) -> Roles:
    known = role_names(attributes)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise UserError(f"Role map {path}: roles must be a list of layers, each a list of its heads' roles.")
    if len({len(row) for row in rows}) > 1:
        raise UserError(f"Role map {path}: layers have {[len(row) for row in rows]} heads, expected the same number.")
    for layer, row in enumerate(rows):
        for head, role in enumerate(row):
            if role not in known:
                raise UserError(
                    f"Role map {path}: row {layer}, head {head} has the role {role!r}, expected one of "
                    f"{', '.join(known)}."
                )
    return tuple(tuple(row) for row in rows)


def check(
    role_map: RoleMap,
    *,
    fingerprint: str,
    first_layer: int,
    layers: int,
    heads: int,
    attributes: Sequence[str],
) -> None:
    """Refuse a map that was made for another backbone, layer range or attribute list.

    Raises:
        UserError: every difference is named.
    """
    expected = {
        "fingerprint": fingerprint,
        "first_layer": first_layer,
        "layers": layers,
        "heads": heads,
        "attributes": tuple(attributes),
    }
    found = {
        "fingerprint": role_map.fingerprint,
        "first_layer": role_map.first_layer,
        "layers": len(role_map.roles),
        "heads": len(role_map.roles[0]),
        "attributes": role_map.attributes,
    }
    differences = [
        f"{key} is {found[key]!r}, expected {expected[key]!r}" for key in expected if found[key] != expected[key]
    ]
    if differences:
        raise UserError(
            f"The role map of {role_map.backbone!r} does not fit this run: {'; '.join(differences)}. Use a map made "
            "for this backbone, these layers and these attributes, or another config.mask.pattern."
        )
