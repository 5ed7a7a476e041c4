"""One process at a time in a folder.

On a disk the operating system keeps the lock and frees it with the process, however it ends. A bucket has no such lock,
and one that a killed process leaves would stop the restart after every preemption. There the object `.lock` names the
process that writes, and a second one only says so.
"""

import contextlib
import datetime
import errno
import fcntl
import os
import socket
from typing import Any

from etils import epath

from dear_jax.errors import UserError
from dear_jax.files import storage

NAME = ".lock"


class InUse(UserError):
    """Another process holds the folder."""


class Lock:
    """Held from here to `close`.

    Raises:
        InUse: on a disk, where another process holds it.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: epath.Path) -> None:
        self._path = folder / NAME
        self._file = None if storage.is_remote(folder) else _locked(self._path)
        if storage.is_remote(folder):
            self._note_use()

    def close(self) -> None:
        """Let another process have the folder."""
        if self._file is not None:
            self._file.close()
        else:
            self._path.unlink(missing_ok=True)

    def _note_use(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            who = self._path.read_bytes()[:200].decode(errors="replace")
            print(
                f"{self._path.parent} was opened by {who} and not closed: that run was stopped, or "
                "still goes on. Only one may write there.",
                flush=True,
            )
        now = datetime.datetime.now(datetime.UTC).isoformat(" ", "seconds")
        self._path.write_text(f"process {os.getpid()} on {socket.gethostname()} at {now}")


def _locked(path: epath.Path) -> Any:
    """The open and locked file."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise InUse(
            f"workdir {path.parent} is in use by another process. Wait for it, or give another --workdir."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # file systems without locks
            raise
    return file
