"""One item, one process; locks of the dead are overtaken."""

import json
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from dear_jax.errors import UserError
from experiments.sweep import item_lock


def write_lock(folder, number, *, pid, machine=None, age=0.0):
    folder.mkdir(exist_ok=True)
    path = folder / f"a.{number}"
    path.write_text(json.dumps({"host": "there", "machine": machine or item_lock._machine(), "pid": pid}))
    os.utime(path, (time.time() - age,) * 2)
    return path


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_second_notices_and_a_release_frees(tmp_path):
    with item_lock.hold(tmp_path / "locks", "a", 600):
        assert f"process {os.getpid()}" in item_lock.holder(tmp_path / "locks", "a", 600)
        with pytest.raises(item_lock.InUse, match="last heard of"), item_lock.hold(tmp_path / "locks", "a", 600):
            pass
        with item_lock.hold(tmp_path / "locks", "a.b", 600):  # another item
            pass
    assert list((tmp_path / "locks").iterdir()) == []
    assert item_lock.holder(tmp_path / "locks", "a", 600) == ""


@pytest.mark.parametrize(
    ("owner", "free"),
    [
        (dict(pid=os.getpid()), False),
        (dict(pid=os.getpid(), age=700), True),
        (dict(pid=2**22 + 1, machine="another"), False),  # nobody can look for it there
        (dict(pid=2**22 + 1, machine="another", age=700), True),
        (dict(pid=None), True),  # a process of this machine that is no more
    ],
)
def test_stale_locks_are_overtaken_and_no_others(tmp_path, owner, free):
    write_lock(tmp_path, 3, **owner | {"pid": owner["pid"] or dead_pid()})
    assert (item_lock.holder(tmp_path, "a", 600) == "") == free
    if not free:
        with pytest.raises(item_lock.InUse), item_lock.hold(tmp_path, "a", 600):
            pass
        return
    with item_lock.hold(tmp_path, "a", 600):
        assert (tmp_path / "a.4").exists()
        with pytest.raises(item_lock.InUse), item_lock.hold(tmp_path, "a", 600):
            pass


def test_a_lock_about_to_be_written_holds(tmp_path):
    (tmp_path / "a.1").touch()
    with pytest.raises(item_lock.InUse, match="another process"), item_lock.hold(tmp_path, "a", 600):
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"\xff\xfe",
        b"[]",
        b'{"host": 1, "machine": 2, "pid": 1e400}',
        b'{"host": 1, "machine": 2, "pid": -1}',
        b'{"host": 1, "machine": 2, "pid": 99999999999999999999}',
    ],
)
def test_a_lock_with_bad_content_holds_until_it_is_stale(tmp_path, content):
    path = tmp_path / "a.1"
    path.write_bytes(content)
    with pytest.raises(item_lock.InUse, match="another process"), item_lock.hold(tmp_path, "a", 600):
        pass
    os.utime(path, (0, 0))
    with item_lock.hold(tmp_path, "a", 600):
        pass


def test_who_comes_late_with_an_old_look_makes_way(tmp_path, monkeypatch):
    real, looks = item_lock._locks, []

    def old_look_first(folder, name):
        looks.append(name)
        return {} if len(looks) == 1 else real(folder, name)

    write_lock(tmp_path, 2, pid=os.getpid())
    monkeypatch.setattr(item_lock, "_locks", old_look_first)
    with pytest.raises(item_lock.InUse, match="same moment"), item_lock.hold(tmp_path, "a", 600):
        pass
    assert not (tmp_path / "a.1").exists()


def test_the_holder_is_heard_of(tmp_path, monkeypatch):
    monkeypatch.setattr(item_lock, "HEARTBEAT_SECONDS", 0.02)
    with item_lock.hold(tmp_path, "a", 600):
        os.utime(tmp_path / "a.1", (0, 0))
        deadline = time.monotonic() + 10
        while (tmp_path / "a.1").stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - (tmp_path / "a.1").stat().st_mtime < 60


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot lock a"), item_lock.hold(tmp_path / "file", "a", 600):
        pass


def _contend(folder, start, holding, most, wins):
    start.wait()
    for _ in range(20):
        try:
            with item_lock.hold(folder, "a", 600):
                with holding.get_lock():
                    holding.value += 1
                    most.value = max(most.value, holding.value)
                    wins.value += 1
                time.sleep(0.002)
                with holding.get_lock():
                    holding.value -= 1
        except item_lock.InUse:
            time.sleep(0.001)


@pytest.mark.slow
def test_never_two_holders(tmp_path):
    context = multiprocessing.get_context("spawn")
    write_lock(tmp_path, 1, pid=dead_pid())
    start, (holding, most, wins) = context.Event(), [context.Value("i", 0) for _ in range(3)]
    processes = [context.Process(target=_contend, args=(tmp_path, start, holding, most, wins)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert most.value == 1
    assert wins.value > 1
