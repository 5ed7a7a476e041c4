"""SHA-256 of every file of a checkpoint: Orbax alone restores a flipped bit as if it were a number."""

import hashlib
import json

from etils import epath

from dear_jax.files import storage

NAME = "sha256.json"
COMMITTED = "commit_success.txt"  # Orbax's mark of a step in a bucket that is whole
MARKS = (COMMITTED, "_CHECKPOINT_METADATA")  # of Orbax's progress; it writes them later


def write(folder: epath.Path) -> None:
    """Write the sums of all files of a folder into it."""
    (folder / NAME).write_text(json.dumps(_sums(folder)))


def damage(folder: epath.Path) -> str | None:
    """What is missing from a folder or has changed since `write`, if anything."""
    try:
        expected, found = json.loads((folder / NAME).read_text()), _sums(folder)
    except FileNotFoundError:
        return f"{NAME} is missing"
    except storage.failures(ValueError) as error:
        return f"{NAME}: {error}"
    for name, value in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != value:
            return f"{name} has changed"
    return None


def _sums(folder: epath.Path) -> dict[str, str]:
    return {
        name: hashlib.sha256(storage.read_bytes(folder / name)).hexdigest()
        for name in storage.files_below(folder)
        if name.rpartition("/")[2] not in (NAME, *MARKS)
    }
