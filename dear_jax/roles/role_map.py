"""The role map: what each attention head of the deeper layers does, as a small JSON file.

A role is one of the strings "generalization", "mixed", "other" (a specialist of none of the attributes, treated
like a generalization head) and "attribute:NAME" (methods/dear section 1, step 5).
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import json_files, storage

GENERALIZATION = "generalization"
MIXED = "mixed"
OTHER = "other"
EMBEDDED = Path(__file__).parent / "maps" / "embedded.json"  # of the embedded CLIP
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

    def to_dict(self) -> dict[str, Any]:
        """The content of the file, in JSON's own types."""
        fields = {name: getattr(self, name) for name in _FIELDS}
        values: dict[str, Any] = json.loads(json.dumps({"format": FORMAT} | fields | self.details))
        return values

    def save(self, path: epath.PathLike) -> None:
        """Write the map as JSON, sealed, whole or not at all."""
        storage.write(path, json.dumps(json_files.seal(self.to_dict()), indent=1) + "\n")


_FIELDS = ("backbone", "fingerprint", "first_layer", "attributes", "roles")


def assign(
    entropy: Sequence[Sequence[float]],
    dominant: Sequence[Sequence[str]],
    low: float,
    high: float,
    attributes: Sequence[str],
) -> Roles:
    """Roles by Concept Entropy: specialists at `low` bits and below, generalization heads at `high` and above.

    Args:
        entropy: bits of each head, `[layers][heads]`.
        dominant: name of each head's largest cluster.
        low: bits.
        high: bits. Where `low` and `high` are the same and so is a head's entropy, it is mixed.
        attributes: what a specialist may be of; one of anything else is `other`.
    """

    def role(bits: float, name: str) -> str:
        if bits <= low and bits < high:
            return _specialist(name, attributes)
        return GENERALIZATION if bits >= high and bits > low else MIXED

    return _table(role, entropy, dominant)


def assign_by_chance(
    p_values: Sequence[Sequence[float]], dominant: Sequence[Sequence[str]], level: float, attributes: Sequence[str]
) -> Roles:
    """Roles by `concepts.chance`: specialists at `level` and below, and no head is mixed; else as `assign`."""

    def role(p: float, name: str) -> str:
        return _specialist(name, attributes) if p <= level else GENERALIZATION

    return _table(role, p_values, dominant)


def _specialist(name: str, attributes: Sequence[str]) -> str:
    return attribute_role(name) if name in attributes else OTHER


def _table(
    role: Callable[[float, str], str], values: Sequence[Sequence[float]], dominant: Sequence[Sequence[str]]
) -> Roles:
    return tuple(
        tuple(role(value, name) for value, name in zip(*rows, strict=True))
        for rows in zip(values, dominant, strict=True)
    )


def load(path: epath.PathLike) -> RoleMap:
    """Read and validate a role map.

    Raises:
        UserError: the file is absent, not JSON, lacks a field, or a head has an unknown role; it says which.
    """
    try:
        values = json_files.parse(storage.read_bytes(storage.to_path(path)))
    except storage.failures() as error:
        raise UserError(
            f"Role map {path} cannot be read ({storage.reason(error)}). Give the path of a role map."
        ) from error
    except ValueError as error:
        raise UserError(f"Role map {path} is not valid JSON ({error}). Write it again.") from error
    return read(values, path)


def describe(role_map: RoleMap, path: epath.PathLike) -> dict[str, Any]:
    """What a run says of the map that it used: where it stood, the SHA-256 of its file, and what it was made of."""
    settings = role_map.details.get("settings", {})
    found = {
        "path": f"dear_jax/roles/maps/{EMBEDDED.name}" if str(path) == str(EMBEDDED) else str(path),
        "file_sha256": hashlib.sha256(storage.to_path(path).read_bytes()).hexdigest(),
        "sentence_encoder": role_map.details.get("sentence_encoder"),
        "bank": settings.get("bank"),
        "bank_sha256": settings.get("bank_sha256"),
        "dataset": role_map.details.get("data", {}).get("dataset"),
    }
    return {name: value for name, value in found.items() if value is not None}


def read(values: Any, path: epath.PathLike) -> RoleMap:
    """A role map from the content of its file.

    Raises:
        UserError: it lacks a field, or a head has an unknown role.
    """
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise UserError(f"{path} is not a role map: expected format {FORMAT!r}, found {found!r}.")
    missing = [name for name in _FIELDS if name not in values]
    if missing:
        raise UserError(f"Role map {path} lacks {', '.join(missing)}. Write it again.")
    details = {name: value for name, value in values.items() if name not in (*_FIELDS, "format", json_files.SEAL)}
    attributes, first_layer = values["attributes"], values["first_layer"]
    if not isinstance(attributes, list) or not all(isinstance(name, str) for name in attributes):
        raise UserError(f"Role map {path}: attributes is {attributes!r}, expected a list of names.")
    if not isinstance(first_layer, int):
        raise UserError(f"Role map {path}: first_layer is {first_layer!r}, expected a whole number.")
    roles = _read_roles(values["roles"], attributes, path)
    _check_entropy(details.get("entropy"), roles, path)
    try:
        json_files.unseal(values)
    except ValueError as error:
        raise UserError(
            f"Role map {path} has changed since it was written ({error}). Write it again; one that was changed on "
            f"purpose is read without its key {json_files.SEAL}."
        ) from error
    return RoleMap(
        str(values["backbone"]), str(values["fingerprint"]), first_layer, tuple(attributes), roles, details
    )


def _read_roles(rows: Any, attributes: Sequence[str], path: epath.PathLike) -> Roles:
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


def _check_entropy(rows: Any, roles: Roles, path: epath.PathLike) -> None:
    """Of a map that has entropies: a number for each head."""
    if rows is None:
        return
    shapes = [len(row) if isinstance(row, list) else 0 for row in rows] if isinstance(rows, list) else []
    values = [value for row in rows for value in row] if shapes == [len(row) for row in roles] else [None]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        raise UserError(
            f"Role map {path}: entropy must be a list of {len(roles)} layers, each with a number of bits for each of "
            f"its {len(roles[0])} heads. Write it again."
        )


def check(role_map: RoleMap, **wanted: Any) -> None:
    """Refuse a map that was made for another backbone, layer range or attribute list; keywords as in `differences`.

    Raises:
        UserError: every difference is named.
    """
    found = differences(role_map, **wanted)
    if found:
        raise UserError(
            f"The role map of {role_map.backbone!r} does not fit this run: {'; '.join(found)}. Use a map made "
            "for this backbone, these layers and these attributes, or another config.dear.mask.pattern."
        )


def fits(role_map: RoleMap, **wanted: Any) -> bool:
    """Whether there is no difference."""
    return not differences(role_map, **wanted)


def differences(
    role_map: RoleMap, *, fingerprint: str, first_layer: int, layers: int, heads: int, attributes: Sequence[str]
) -> list[str]:
    """Where a map differs from what a run needs, in words."""
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
    return [f"{key} is {found[key]!r}, expected {expected[key]!r}" for key in expected if found[key] != expected[key]]
