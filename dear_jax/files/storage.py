"""Where files are: on a disk, or in a bucket of Google Cloud Storage (`gs://BUCKET/FOLDER`).

One type of path, `etils.epath.Path`, stands for both; a disk's paths do what pathlib's do. What differs is here: an
object of a bucket is written whole or not at all, cannot grow or be mapped into memory, and a look at each costs a
request. `pip install -e '.[gcs]'` brings what buckets need.
"""

import contextlib
import errno
import functools
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import fsspec
from etils import epath

from dear_jax.errors import UserError

BUCKET = "gs://"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk without space says
TEMPORARY = re.compile(r"\..+\.\w{8}\.tmp")  # what `write_atomically` writes to first
THREADS = 16  # that wait for a bucket's answers

Item = TypeVar("Item")
Result = TypeVar("Result")

# One library for buckets, gcsfs, also where TensorFlow is installed: epath would take that, with other errors.
os.environ["EPATH_USE_TF"] = "false"
# Orbax's TensorStore and other hosts write beside gcsfs, which would not see it in a listing that it remembers.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False


def to_path(name: epath.PathLike) -> epath.Path:
    """A path as a user writes it: ~ is the home folder; gs:// a bucket, which is tried.

    Raises:
        UserError: another kind of address, or a bucket that cannot be read.
    """
    text = os.fspath(name)
    if not is_remote(text):
        if "://" in text:
            raise UserError(f"{text}: expected a path on this machine, or in a bucket as gs://BUCKET/FOLDER.")
        return epath.Path(os.path.expanduser(text))  # an unknown ~user stays as it is
    _check_bucket(text.removeprefix(BUCKET).partition("/")[0])
    return epath.Path(text)


def is_remote(path: epath.PathLike) -> bool:
    """Whether a path leads into a bucket."""
    return os.fspath(path).startswith(BUCKET)


def absolute(path: epath.Path) -> epath.Path:
    """The path from the root; one in a bucket is such a path already."""
    return path if is_remote(path) else epath.Path(Path(path).absolute())


def entries(folder: epath.PathLike) -> tuple[list[str], list[str]]:
    """The names of the folders and of the files in a folder, each sorted; links are what they lead to."""
    folders: list[str] = []
    files: list[str] = []
    if is_remote(folder):
        system, root = fsspec.url_to_fs(os.fspath(folder).rstrip("/"))
        for row in system.ls(root, detail=True):
            name = row["name"].removeprefix(root).strip("/")
            if name:  # the empty object that stands for the folder itself has none
                (folders if row["type"] == "directory" else files).append(name)
    else:
        with os.scandir(folder) as found:
            for entry in found:
                (folders if entry.is_dir() else files).append(entry.name)
    return sorted(folders), sorted(files)


def files_below(folder: epath.PathLike) -> list[str]:
    """All files anywhere below a folder, as sorted paths relative to it; each folder once, whatever links there are."""
    if is_remote(folder):
        system, root = fsspec.url_to_fs(os.fspath(folder).rstrip("/"))
        return sorted(name.removeprefix(f"{root}/") for name in system.find(root) if not name.endswith("/"))
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = os.stat(parent)
        if (place.st_dev, place.st_ino) in seen:
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders.sort()
        found += [Path(parent, name).relative_to(folder).as_posix() for name in names]
    return sorted(found)


def read_bytes(path: epath.Path) -> bytes:
    """The content of a file; from a bucket in one request, where opening it would take another.

    Raises:
        OSError: it cannot be read, or is a pipe or a device, which might never end.
    """
    if is_remote(path):
        system, name = fsspec.url_to_fs(os.fspath(path))
        return system.cat_file(name)
    if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a pipe or a device, no file", os.fspath(path))
    return path.read_bytes()


def write_atomically(path: epath.Path, content: str | bytes) -> None:
    """Write or replace a file: whoever reads it sees the old or the new one, never a part.

    On a disk it is written to a new file in the same folder, which is then renamed into its place. A bucket shows an
    object once it is whole.
    """
    # A file's name that is no UTF-8 may be in a text: its bytes are written as \udcNN.
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if is_remote(path):
        path.write_bytes(data)
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would hide results from colleagues
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write(path: epath.PathLike, content: str | bytes) -> None:
    """The same, for what a job writes.

    Raises:
        UserError: the disk is full, or not ours.
    """
    with refusals_answered(f"cannot write {path}"):
        write_atomically(to_path(path), content)


def remove_temporaries(folder: epath.Path, name: str = "") -> None:
    """Remove what killed writes into a folder left, or those of one file; the caller is the only one that writes it."""
    if is_remote(folder):
        return
    for path in Path(folder).iterdir():
        if TEMPORARY.fullmatch(path.name) and path.name.startswith(f".{name}"):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def refusals_answered(what: str) -> Iterator[None]:
    """Say what the operating system or the bucket refused: no right, no space, a file where a folder should be.

    Raises:
        UserError: instead of any of `failures()`.
    """
    try:
        yield
    except failures() as error:
        place = "in a bucket" if BUCKET in what else "on a disk with space"
        raise UserError(f"{what}: {reason(error)}. Give a --workdir {place} that you may write to.") from error


def move(folder: epath.Path, target: epath.Path) -> None:
    """Move a folder to a place where there is nothing; in a bucket object by object."""
    if is_remote(folder):
        system, name = fsspec.url_to_fs(os.fspath(folder))  # epath's rename would ask for the folder above the target
        system.mv(name, os.fspath(target), recursive=True)
    else:
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The function of each item, many at a time: a bucket takes tens of milliseconds for each answer."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))


def failures(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What reading and writing may raise, OSError and gcsfs's own errors, and what `except` shall catch beside it."""
    if "gcsfs" not in sys.modules:
        return (OSError, *others)
    from gcsfs.retry import RETRIABLE_EXCEPTIONS, HttpError  # optional

    return (OSError, HttpError, *RETRIABLE_EXCEPTIONS, *others)


def reason(error: BaseException) -> str:
    """What the operating system or the bucket said, in a line."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(said.split())


@functools.cache
def _check_bucket(bucket: str) -> None:
    """List one object of a bucket, so that every later error is about a file."""
    address = f"{BUCKET}{bucket}"
    try:
        system, _ = fsspec.url_to_fs(address)
        system.call("GET", "b/{}/o", bucket, maxResults=1)
    except ImportError as error:
        raise UserError(
            f"{address}: reading a bucket needs gcsfs ({error}). Install it by pip install -e '.[gcs]'."
        ) from error
    except Exception as error:  # of gcsfs, its HTTP library or Google's authentication
        what = "there is no such bucket" if isinstance(error, FileNotFoundError) else reason(error)
        raise UserError(
            f"{address}: the bucket cannot be read ({what}). Give one whose objects this machine may list, read and "
            "write: its service account needs the roles Storage Object User and Storage Legacy Bucket Reader, and a "
            "machine without one `gcloud auth application-default login`."
        ) from error
