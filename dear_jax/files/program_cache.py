"""Compiled programs, kept in a folder for later starts: JAX's persistent compilation cache, where and how large it is.

JAX knows an entry by the program, jaxlib's version, the flags and the kind of device, and compiles anew what it cannot
read. It does not tell the processors of machines apart for which a program was compiled, and these may share a home:
so every kind of processor has a folder of its own.
"""

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from filelock import FileLock, Timeout
from jax.experimental.compilation_cache import compilation_cache

from dear_jax.errors import UserError, show
from dear_jax.files import local_copy, storage

AUTO, NONE = "auto", "none"
MOST_BYTES = 2**29  # of a kind of processor; then what was used longest ago goes
KINDS = 4  # of processors, used last
LEAST_SECONDS = 0.1  # of compiling, that are worth a file
_SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)
CPU_INFO = Path("/proc/cpuinfo")
# What a compiler looks at; the clock and the like change from one look to the next.
_OF_CPU = ("vendor_id", "cpu family", "model", "model name", "flags", "CPU implementer", "CPU part", "Features")


def use(place: str) -> None:
    """Keep compiled programs from now on.

    Args:
        place: a folder, whose size is the user's concern; `AUTO`: where JAX was told to by its own variable, else in
            `cache_folder()`, or nowhere, with a word about it, where that cannot be written; `NONE` or empty: nowhere.

    Raises:
        UserError: the folder cannot be made.
    """
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if place == AUTO:
        if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
            _use_own()
    elif place in (NONE, ""):
        _set(jax_compilation_cache_dir=None)
    else:
        folder = os.path.expanduser(place)
        try:
            storage.to_path(folder).mkdir(parents=True, exist_ok=True)
        except storage.failures() as error:
            why = f"cannot make the folder {show(folder)}: {storage.reason(error)}"
            raise UserError(f"config.compute.compilation_cache: {why}.") from error
        _set(jax_compilation_cache_dir=folder, jax_persistent_cache_min_compile_time_secs=0.0)


def cache_folder() -> Path:
    """The user's folder for this kind of processor."""
    return Path(local_copy.cache_folder(), "programs", _processor())


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Give a Python program back the cache that it had."""
    before = {name: getattr(jax.config, name) for name in _SETTINGS}
    try:
        yield
    finally:
        _set(**before)


def _use_own() -> None:
    """Use the user's folder, if it can be written."""
    folder = cache_folder()
    try:
        if not folder.is_absolute():
            raise OSError(errno.ENOENT, "there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            os.utime(folder)  # used now
    except OSError as error:
        print(
            f"Compiled programs are not kept for later starts: {folder} cannot be written ({storage.reason(error)}). "
            "Give a folder that can by --config.compute.compilation_cache=FOLDER, or none.",
            flush=True,
        )
        return
    _remove_torn(folder)
    _remove_oldest(folder.parent)
    _set(
        jax_compilation_cache_dir=str(folder),
        jax_compilation_cache_max_size=MOST_BYTES,
        jax_persistent_cache_min_compile_time_secs=LEAST_SECONDS,
    )


def _set(**settings: Any) -> None:
    """Set JAX's settings; what it has opened by other ones it opens anew."""
    if any(getattr(jax.config, name) != value for name, value in settings.items()):
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def _remove_torn(folder: Path) -> None:
    """Remove what killed processes left: without the time that JAX writes last it cannot clean up."""
    with contextlib.suppress(Timeout, OSError), FileLock(folder / ".lockfile", timeout=1):
        for entry in folder.glob("*-cache"):
            if not Path(f"{str(entry).removesuffix('-cache')}-atime").exists():
                entry.unlink()


def _remove_oldest(parent: Path) -> None:
    """Remove the folders of kinds of processors that were used longest ago."""
    with contextlib.suppress(OSError):  # another process does the same
        for older in sorted(parent.iterdir(), key=lambda path: path.stat().st_mtime)[:-KINDS]:
            shutil.rmtree(older, ignore_errors=True)


def _processor() -> str:
    """A name for the kind of processor, from what the operating system says of the first one."""
    try:
        first = CPU_INFO.read_text().partition("\n\n")[0]
    except OSError:  # another system than Linux
        first = ""
    rows = [line.partition(":") for line in first.splitlines()]
    about = [f"{key.strip()}:{value.strip()}" for key, _, value in rows if key.strip() in _OF_CPU]
    digest = hashlib.sha256("\n".join([*about, platform.processor()]).encode()).hexdigest()[:12]
    return f"{platform.machine()}-{digest}"
