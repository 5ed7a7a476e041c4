"""JSON that the project writes and trusts: read with limits, and sealed by a checksum of its content.

An object names the SHA-256 of the rest of it under `sha256`. What earlier versions or people wrote has none, and is
taken as it is.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import storage

SEAL = "sha256"
DEEPEST = 64  # levels of lists and objects; nothing of this project has more than ten


def parse(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or its lists and objects are nested too deep.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    level = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _items(outer)]
    if level:
        raise ValueError("nested too deep")
    return value


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object of JSON's own types with its checksum."""
    return {**value, SEAL: _digest(value)}


def to_text(value: Mapping[str, Any]) -> str:
    """The content of a file: an object of JSON's own types, sealed."""
    return json.dumps(seal(value), indent=2, allow_nan=False) + "\n"


def unseal(value: dict[str, Any]) -> dict[str, Any]:
    """The object without its checksum, if it has one.

    Raises:
        ValueError: it is not the object that was sealed.
    """
    if SEAL not in value:
        return value
    rest = {key: item for key, item in value.items() if key != SEAL}
    if value[SEAL] != _digest(rest):
        raise ValueError(f"its content is not what its {SEAL} was made of")
    return rest


def read_object(path: epath.PathLike) -> dict[str, Any]:
    """The object in a file, checked and without its checksum.

    Raises:
        UserError: the file cannot be read, holds no JSON object, or has changed since it was written.
    """
    try:
        value = parse(storage.read_bytes(storage.to_path(path)))
    except storage.failures() as error:
        raise UserError(f"{path} cannot be read: {storage.reason(error)}.") from error
    except ValueError as error:
        raise UserError(
            f"{path}: half-written or damaged, it is not JSON ({error}). Bring it back from a backup, or remove it."
        ) from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise UserError(f"{path} holds {found}, expected a JSON object. Bring it back from a backup, or remove it.")
    try:
        return unseal(value)
    except ValueError as error:
        raise UserError(
            f"{path} has changed since it was written: {error}. Bring it back from a backup, or remove it; if you "
            f"changed it on purpose, leave out its key {SEAL}."
        ) from error


def _digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of an object, however it is laid out as text."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
