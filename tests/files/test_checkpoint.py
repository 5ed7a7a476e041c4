import itertools
import os
import random
import re
import shutil
import signal
import string
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dear_jax.errors import UserError
from dear_jax.files import checksums
from dear_jax.files.checkpoint import Checkpointer, read
from tests.repository import REPOSITORY


class State(NamedTuple):
    adapter: dict
    moments: tuple
    step: jax.Array


def make_state(seed: int = 0) -> State:
    keys = jax.random.split(jax.random.key(seed), 3)
    return State(
        adapter={"vision": {"tokens": jax.random.normal(keys[0], (3, 2, 5, 40))}, "alpha": jnp.ones((3, 2, 6)) / 3},
        moments=(jax.random.normal(keys[1], (3, 2, 7), jnp.bfloat16), None, jax.random.bits(keys[2], (3, 2))),
        step=jnp.int32(seed),
    )


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def save(folder, *steps, keep=3):
    with Checkpointer(folder, keep) as checkpointer:
        for step in steps:
            checkpointer.save(step, make_state(step), {"step": step}, {"backbone": "tiny"})


def files_of(folder, step):
    return sorted(path for path in (folder / str(step)).rglob("*") if path.is_file())


def test_restores_exactly_what_was_saved(tmp_path):
    save(tmp_path, 1, 2)
    with Checkpointer(tmp_path) as checkpointer:
        found = checkpointer.restore(jax.eval_shape(make_state))
    assert (found.step, found.iterator_state, found.metadata) == (2, {"step": 2}, {"backbone": "tiny"})
    assert_equal(found.state, make_state(2))


def test_nothing_saved_yet(tmp_path):
    with Checkpointer(tmp_path / "new") as checkpointer:
        assert checkpointer.restore(make_state()) is None
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="no checkpoint in"):
        read(tmp_path / "new", make_state())


def test_keeps_the_newest(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]


def test_a_step_that_is_there_is_not_saved_again(tmp_path):
    save(tmp_path, 1)
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, make_state(5))
    assert_equal(read(tmp_path, make_state()).state, make_state(1))


def test_arrays_go_where_the_expected_ones_are(tmp_path):
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("run",))
    sharded = jax.device_put(jnp.arange(8.0).reshape(2, 4), NamedSharding(mesh, PartitionSpec("run")))
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"a": sharded, "empty": jnp.zeros((2, 0)), "host": np.arange(3)})
    like = {"a": sharded, "empty": jnp.zeros((2, 0)), "host": np.arange(3)}
    found = read(tmp_path, like).state
    assert found["a"].sharding == sharded.sharding
    assert found["empty"].shape == (2, 0)
    assert_equal(found, like)
    like["a"] = jnp.zeros((2, 4))
    np.testing.assert_array_equal(read(tmp_path, like).state["a"], sharded)


def test_the_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    update = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = {"a": jnp.zeros((1000, 1000))}
    with Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
        for _ in range(20):
            state = update(state)
    assert not read(tmp_path, state).state["a"].any()


def test_another_architecture_is_refused_with_the_differences(tmp_path):
    save(tmp_path, 1)
    other = make_state()
    other.adapter["alpha"] = jnp.ones((3, 2, 9))
    other.adapter["text"] = jnp.ones(2)
    del other.adapter["vision"]
    with pytest.raises(UserError) as error:
        read(tmp_path, other)
    message = str(error.value)
    assert "adapter/alpha is float32[3,2,6], expected float32[3,2,9]" in message
    assert "adapter/text is missing, expected float32[2]" in message
    assert "adapter/vision/tokens is float32[3,2,5,40], expected nothing" in message
    assert "moments" not in message


def test_other_metadata_is_refused_before_shapes_are_looked_at(tmp_path):
    save(tmp_path, 1)
    assert read(tmp_path, make_state(), {"backbone": "tiny"}).step == 1
    with pytest.raises(UserError, match="backbone is 'tiny', expected 'large'"):
        read(tmp_path, {}, {"backbone": "large"})
    assert read(tmp_path, make_state(), {"reading": "of a later version"}).step == 1


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "garbage":
        path.write_bytes(b"garbage")
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("how", ["missing", "truncated", "garbage", "one bit"])
def test_damage_to_any_file_is_found_and_the_step_before_used(tmp_path, how, capsys):
    save(tmp_path / "good", 1, 2)
    state = make_state()
    marks = {"commit_success.txt", "_CHECKPOINT_METADATA"}  # Orbax reads neither
    names = [path.relative_to(tmp_path / "good") for path in files_of(tmp_path / "good", 2) if path.name not in marks]
    assert len(names) >= 6
    original = {name: (tmp_path / "good" / name).read_bytes() for name in names}
    for name in names:
        path = tmp_path / "good" / name
        damage(path, how)
        found = read(tmp_path / "good", state)
        assert found.step == 1, name
        assert_equal(found.state, make_state(1))
        (said,) = capsys.readouterr().out.splitlines()
        assert f"{tmp_path / 'good' / '2'} (" in said
        path.write_bytes(original[name])
    assert read(tmp_path / "good", state).step == 2


def test_after_a_damaged_step_training_writes_it_again(tmp_path, capsys):
    save(tmp_path, 1, 2)
    damage(tmp_path / "2" / "sha256.json", "missing")
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore(make_state()).step == 1
        assert (tmp_path / "damaged" / "2").is_dir()
        checkpointer.save(2, make_state(7))
    said = capsys.readouterr().out
    assert said == f"checkpoint {tmp_path / '2'} (sha256.json is missing) is damaged: trying the one before.\n"
    found = read(tmp_path, make_state())
    assert found.step == 2
    assert_equal(found.state, make_state(7))


@pytest.mark.parametrize("sums", [b"{}", b"[]", b"null", b'{"about/metadata": null}', b"[" * 100_000, b"\xff"])
def test_sums_that_say_nothing_are_damage(tmp_path, sums, capsys):
    save(tmp_path, 1, 2)
    (tmp_path / "2" / "sha256.json").write_bytes(sums)
    assert read(tmp_path, make_state()).step == 1
    assert re.search(r"sha256\.json|about/metadata has changed", capsys.readouterr().out)


def test_a_step_that_is_not_what_its_name_says_or_none_of_the_run_is_set_aside(tmp_path, capsys):
    save(tmp_path, 1, 2)
    (tmp_path / "2").rename(tmp_path / "3")
    shutil.copytree(tmp_path / "1", tmp_path / "9")
    for name in ("\N{SUPERSCRIPT TWO}", "007"):
        (tmp_path / name).mkdir()
    with Checkpointer(tmp_path) as checkpointer:
        assert checkpointer.restore(make_state(), last=4).step == 1
    output = capsys.readouterr().out
    assert "9 (the run ends with step 4)" in output
    assert "3 (it holds step 2)" in output
    assert sorted(path.name for path in (tmp_path / "damaged").iterdir()) == ["3", "9"]


def test_all_damaged(tmp_path):
    save(tmp_path, 1, 2)
    for step in (1, 2):
        damage(tmp_path / str(step) / "about" / "metadata", "truncated")
    with pytest.raises(UserError, match=r"every checkpoint is damaged: .*2 \(about/metadata has changed\), .*1 \("):
        read(tmp_path, make_state())


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    """A file size limit stands for the full disk: the same kind of error from the same write."""
    code = f"""
import resource, sys
import jax.numpy as jnp
from dear_jax.files.checkpoint import Checkpointer
from dear_jax.errors import UserError
with Checkpointer({str(tmp_path)!r}) as checkpointer:
    checkpointer.save(1, {{"a": jnp.zeros(())}})
    checkpointer.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
    import jax
    checkpointer.save(2, {{"a": jax.random.normal(jax.random.key(0), (100_000,))}})
    try:
        checkpointer.wait()
    except UserError as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"cannot save step 2 to {tmp_path}: File too large. The checkpoint of step 1 is whole")
    save(tmp_path, 3)  # clears away what is left of step 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


def test_no_space_for_the_sums(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    with Checkpointer(tmp_path) as checkpointer:
        monkeypatch.setattr(checksums, "write", refuse)
        checkpointer.save(2, make_state(2))
        with pytest.raises(
            UserError, match=r"cannot save step 2 .*: No space left on device\. The checkpoint of step 1"
        ):
            checkpointer.wait()
        monkeypatch.undo()
    assert read(tmp_path, make_state()).step == 1


KILLED = """
import sys
import itertools
sys.path.insert(0, "tests/files")
from test_checkpoint import Checkpointer, make_state
with Checkpointer(sys.argv[1]) as checkpointer:
    found = checkpointer.restore(make_state())
    first = 0 if found is None else found.step
    for step in itertools.count(first + 1):
        checkpointer.save(step, make_state(step), {"step": step})
        print(step, flush=True)
"""


def kill_while_saving(folder, seconds: float) -> int:
    """Save steps in a loop and SIGKILL it after some time; gives the step that was surely saved."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    with process:
        first = int(process.stdout.readline())
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        return int(([str(first), *process.stdout.read().split("\n")[:-1]])[-1]) - 1


def check_killed(folder, generator, times: int, capsys) -> None:
    for _ in range(times):
        saved = kill_while_saving(folder, generator.uniform(0.0, 0.3))
        found = read(folder, make_state()) if saved else None
        assert "damaged" not in capsys.readouterr().out
        if found is not None:
            assert found.step >= saved
            assert found.iterator_state == {"step": found.step}
            assert_equal(found.state, make_state(found.step))


def test_killed_while_saving(tmp_path, capsys):
    check_killed(tmp_path, random.Random(0), times=2, capsys=capsys)


@pytest.mark.slow
def test_killed_while_saving_often(tmp_path, capsys):
    check_killed(tmp_path, random.Random(1), times=8, capsys=capsys)


def test_a_save_takes_little_time(tmp_path):
    """The step waits for a fraction of the save alone: about 5 ms on an idle core, the rest in the background."""
    state = {f"w{n}": jnp.ones((3, 1, 64, 64)) for n in range(20)}
    with Checkpointer(tmp_path) as checkpointer:
        waits = []
        for step in itertools.islice(itertools.count(1), 5):
            checkpointer.wait()
            start = time.perf_counter()
            checkpointer.save(step, state)
            waits.append(time.perf_counter() - start)
    assert min(waits) < 0.1  # generous: shared machines


def test_every_mark_that_a_folders_name_may_hold(tmp_path):
    names = [string.punctuation.replace("/", ""), "a[1]", "a\\b", "lr=0.1, seed={2} #3", "feature%2Fcool"]
    for place, name in enumerate(names):
        folder = tmp_path / str(place) / name / "checkpoints"
        folder.parent.mkdir(parents=True)
        save(folder, 1, 2)
        with Checkpointer(folder) as checkpointer:
            found = checkpointer.restore(make_state())
        assert found.step == 2
        assert_equal(found.state, make_state(2))
        assert [path.name for path in (tmp_path / str(place)).iterdir()] == [name]
