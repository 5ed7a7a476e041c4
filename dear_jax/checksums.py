"""SHA-256 of every file of a checkpoint: Orbax alone restores a flipped bit as if it were a number."""

import hashlib
import json
from pathlib import Path

NAME = "sha256.json"
MARKS = ("commit_success.txt", "_CHECKPOINT_METADATA")  # of Orbax's progress; it writes them later


def write(folder: Path) -> None:
    """Write the sums of all files of a folder into it."""
    (folder / NAME).write_text(json.dumps(_sums(folder)))


def damage(folder: Path) -> str | None:
    """What is missing from a folder or has changed since `write`, if anything."""
    try:
        expected, found = json.loads((folder / NAME).read_text()), _sums(folder)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"{NAME}: {error}"
    for name, value in expected.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != value:
            return f"{name} has changed"
    return None


def _sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (NAME, *MARKS)
    }
