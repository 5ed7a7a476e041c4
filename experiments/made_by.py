"""What a page of results says of its making, command, commit and device; and where it is written."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


def made_by(command: str) -> dict[str, str]:
    """By a command that has just run, at the commit of the current folder (marked where files differ from it)."""
    import jax  # now, not before other processes ran: on a GPU it takes memory

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {"command": command, "commit": commit.stdout.strip(), "device": jax.devices()[0].device_kind}


def sentence(how: Mapping[str, str]) -> str:
    """The beginning of a line of a page."""
    return f"`{how['command']}` at commit {how['commit']} on {how['device']}:"


def write_page(path: Path, text: str) -> None:
    """Write a page, its folder if it is not there, and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"{text}Written: {path}")
