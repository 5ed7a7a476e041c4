"""What a page of results says of its making: command, commit and device."""

import subprocess
from collections.abc import Mapping


def made_by(command: str) -> dict[str, str]:
    """By a command that has just run, at the commit of the current folder (marked where files differ from it)."""
    import jax  # now, not before other processes ran: on a GPU it takes memory

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return {"command": command, "commit": commit.stdout.strip(), "device": jax.devices()[0].device_kind}


def sentence(how: Mapping[str, str]) -> str:
    """The beginning of a line of a page."""
    return f"`{how['command']}` at commit {how['commit']} on {how['device']}:"
