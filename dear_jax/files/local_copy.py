"""Folders on this machine for what cannot be done in a bucket: mapped weights and arrays, records at random places."""

import hashlib
import os
import shutil
from collections.abc import Sequence

import fsspec
from etils import epath

from dear_jax.errors import UserError, count
from dear_jax.files import storage


class LocalCopy:
    """A folder in a bucket for what needs files on a disk: each is copied when it is asked for, and kept.

    Attributes:
        source: the folder in the bucket.
        names: its files, as paths relative to it; empty where there is no such folder.
        root: of the copy, below `cache_folder()`; another one when a file in the bucket has changed.
        folder: where the files go, `root / place`.
    """

    def __init__(self, source: epath.Path, place: str = "") -> None:
        self.source = source
        self._system, path = fsspec.url_to_fs(os.fspath(source))
        found = self._system.find(path, detail=True)
        self._sizes = {
            name.removeprefix(f"{path}/"): int(about["size"]) for name, about in found.items() if not name.endswith("/")
        }
        self.names = frozenset(self._sizes)
        state = sorted((name, about["size"], about.get("generation")) for name, about in found.items())
        digest = hashlib.sha256(repr((os.fspath(source), state)).encode()).hexdigest()[:16]
        self.root = cache_folder() / "copies" / digest
        self.folder = self.root / place

    def fetch(self, names: Sequence[str]) -> None:
        """Copy these files, but for those that an earlier call has copied; says so.

        Raises:
            UserError: no space for them, or a file that cannot be copied.
        """
        absent = [name for name in names if not (self.folder / name).exists()]
        if not absent:
            return
        size = sum(self._sizes[name] for name in absent)
        self.folder.mkdir(parents=True, exist_ok=True)
        if size > shutil.disk_usage(self.folder).free:
            raise UserError(
                f"{self.source}: {size / 1e9:,.1f} GB have to be copied to {self.folder}, and that disk has no space "
                "for them. Set XDG_CACHE_HOME to a folder that has, or mount the bucket by gcsfuse and give the "
                "mounted folder."
            )
        what = f"{count(len(absent), 'file')} ({size / 1e6:,.1f} MB)"
        print(f"Copying {what} from {self.source} to {self.folder} ...", flush=True)
        storage.in_threads(self._fetch_one, absent)

    def _fetch_one(self, name: str) -> None:
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = f"{target}.{os.getpid()}"  # several processes may copy at once
        try:
            self._system.get_file(os.fspath(self.source / name), temporary)
            os.replace(temporary, target)
        except storage.failures() as error:
            raise UserError(
                f"{self.source / name} cannot be copied to {target}: {storage.reason(error)}. Start again."
            ) from error


def fetch(file: epath.Path) -> epath.Path:
    """The copy on this machine of one file in a bucket."""
    copy = LocalCopy(file.parent)
    copy.fetch([file.name])
    return copy.folder / file.name


def local_folder(folder: epath.Path) -> epath.Path:
    """The folder itself; for one in a bucket, a folder of its own on this machine, where files can be mapped."""
    if not storage.is_remote(folder):
        return folder
    local = cache_folder() / "work" / os.fspath(folder).removeprefix(storage.BUCKET)
    local.mkdir(parents=True, exist_ok=True)
    return local


def upload(folder: epath.Path, target: epath.Path) -> None:
    """Copy the files of a folder on this machine into one in a bucket."""
    for name in storage.files_below(folder):
        storage.write(target / name, (folder / name).read_bytes())


def cache_folder() -> epath.Path:
    """This machine's folder for copies of what lies in buckets: `dear_jax` below XDG_CACHE_HOME or ~/.cache."""
    return epath.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "dear_jax"
