"""SHA-256 of every file of a checkpoint: Orbax alone restores a flipped bit as if it were a number."""

import hashlib
import json

from etils import epath

from dear_jax.files import json_files, storage

NAME = "sha256.json"
COMMITTED = "commit_success.txt"  # Orbax's mark of a step in a bucket that is whole
MARKS = (COMMITTED, "_CHECKPOINT_METADATA")  # of Orbax's progress; it writes them later


def write(folder: epath.Path) -> None:
    """Write the sums of all files of a folder into it."""
    (folder / NAME).write_text(json.dumps(_sums(folder)))


def damage(folder: epath.Path) -> str | None:
    """What is missing from a folder or has changed since `write`, if anything."""
    try:
        expected, found = json_files.parse((folder / NAME).read_bytes()), _sums(folder)
    except FileNotFoundError:
        return f"{NAME} is missing"
    except storage.failures(ValueError) as error:
        return f"{NAME}: {error}"
    if not isinstance(expected, dict):
        return f"{NAME} holds no object"
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if name not in expected:
            return f"{name} is not in {NAME}"
        if found[name] != expected[name]:
            return f"{name} has changed"
    return None


def _sums(folder: epath.Path) -> dict[str, str]:
    return {
        name: hashlib.sha256(storage.read_bytes(folder / name)).hexdigest()
        for name in storage.files_below(folder)
        if not (last := name.rpartition("/")[2]).startswith(".") and last not in (NAME, *MARKS)  # hidden: a desktop's
    }
