"""A lock per item of a sweep, for processes on one machine or on many that share a file system.

A lock is a file that its holder creates exclusively and touches every half minute. It is stale once it has not been
touched for some minutes, or at once when it names a process of this very machine that is no more. Nobody ever removes
another's lock, which would race: a stale one is overtaken by creating the next number (`NAME.1`, `NAME.2`, ...), which
only one process can do; the highest number holds.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from dear_jax.errors import UserError
from dear_jax.files import json_files

HEARTBEAT_SECONDS = 30.0


class InUse(Exception):
    """Somebody else holds the lock; the message says who."""


@contextlib.contextmanager
def hold(folder: Path, name: str, stale_seconds: float) -> Iterator[None]:
    """Hold the lock `name` in `folder` while the block runs.

    Args:
        folder: on a file system that all processes see; created if needed.
        name: of the item.
        stale_seconds: a lock that nobody has touched for so long has lost its holder.

    Raises:
        InUse: somebody else holds it.
        UserError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquire(folder, name, stale_seconds)
    except OSError as error:
        raise UserError(f"cannot lock {name} in {folder}: {error.strerror}. Give a --workdir to write to.") from error
    released = threading.Event()
    heart = threading.Thread(target=_beat, args=(lock, released), daemon=True)
    heart.start()
    try:
        yield
    finally:
        released.set()
        heart.join()
        lock.unlink(missing_ok=True)


def holder(folder: Path, name: str, stale_seconds: float) -> str:
    """Who holds a lock, in words; empty if nobody does."""
    locks = _locks(folder, name)
    return _alive(locks[max(locks)], time.time(), stale_seconds) if locks else ""


def _acquire(folder: Path, name: str, stale_seconds: float) -> Path:
    before = _locks(folder, name)
    mine = folder / f"{name}.{max(before, default=0) + 1}"
    if before:
        who = _alive(before[max(before)], _file_system_time(folder), stale_seconds)
        if who:
            raise InUse(who)
    try:
        with mine.open("x") as file:
            json.dump({"host": socket.gethostname(), "machine": _machine(), "pid": os.getpid()}, file)
    except FileExistsError:
        raise InUse("another process, which was faster") from None
    # Who looked before a release and creates after it finds itself beside a newer lock, and makes way.
    others = _locks(folder, name).keys() - before.keys() - {_number(mine)}
    if others:
        mine.unlink()
        raise InUse("another process, which came at the same moment")
    return mine


def _locks(folder: Path, name: str) -> dict[int, Path]:
    """Number -> file of every lock of that name."""
    pattern = re.compile(re.escape(name) + r"\.[0-9]+")
    return {_number(path): path for path in folder.glob("*") if pattern.fullmatch(path.name)}


def _number(lock: Path) -> int:
    return int(lock.suffix[1:])


def _alive(lock: Path, now: float, stale_seconds: float) -> str:
    """Who holds a lock, in words; empty if it is stale or gone."""
    try:
        silent = now - lock.stat().st_mtime
        content = lock.read_bytes()
    except OSError:
        return ""
    try:
        owner = json_files.parse(content)
        machine, pid = owner["machine"], int(owner["pid"])
        if not 0 < pid < 2**31:
            raise ValueError(f"no process has the number {pid}")
        who = f"process {pid} on {str(owner['host'])[:100]}"
    except (ValueError, TypeError, KeyError, OverflowError):  # damaged, or its holder has not written it yet
        who, machine, pid = "another process", "", 0
    if silent > stale_seconds or (machine == _machine() and not _process_exists(pid)):
        return ""
    return f"{who}, which was last heard of {max(0, round(silent))} s ago"


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _machine() -> str:
    """This start of this machine and its space of process numbers: containers may share a host name."""
    try:
        space = os.readlink("/proc/self/ns/pid")
        return f"{socket.gethostname()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {space}"
    except OSError:  # not Linux
        return socket.gethostname()


def _file_system_time(folder: Path) -> float:
    """Now by the clock that stamps files there, which may not be this machine's."""
    probe = folder / f".{socket.gethostname()}.{os.getpid()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(lock: Path, released: threading.Event) -> None:
    while not released.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):  # a file system that is away for a moment
            os.utime(lock)
