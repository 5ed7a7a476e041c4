"""A file that grows as a run goes on, on a disk or in a bucket.

On a disk it grows by a piece at a time. An object in a bucket cannot grow and may be replaced once a second at most:
there pieces wait in memory, and the object is written anew every half minute, at `flush` and so at every checkpoint.
"""

import time

from etils import epath

from dear_jax.files import storage

PERIOD = 30.0  # seconds between two writes to a bucket


class GrowingFile:
    """All methods may raise `storage.failures()`."""

    def __init__(self, path: epath.Path) -> None:
        self.path = path
        self._content = b""  # in a bucket: the whole
        self._written = 0  # how many bytes of it are in the object
        self._next_write = 0.0
        if storage.is_remote(path):
            self._content = self.read()
            self._written = len(self._content)

    def read(self) -> bytes:
        """What is there; nothing where there is no file."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    def append(self, piece: bytes) -> None:
        """Add a piece."""
        if not storage.is_remote(self.path):
            with self.path.open("ab") as file:
                file.write(piece)
            return
        self._content += piece
        if time.monotonic() >= self._next_write:
            self.flush()

    def replace(self, content: bytes) -> None:
        """Have this content and no other."""
        storage.write_atomically(self.path, content)
        if storage.is_remote(self.path):
            self._content, self._written = content, len(content)
            self._next_write = time.monotonic() + PERIOD

    def flush(self) -> None:
        """Have every piece where another process finds it."""
        if self._written != len(self._content):
            self.replace(self._content)
