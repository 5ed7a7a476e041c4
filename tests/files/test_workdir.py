import errno
import json
import os
import signal
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.errors import UserError
from dear_jax.files.workdir import RunConfig, Workdir


def make_config(reg=1.0, seeds=(1, 2), log_every=10):
    values = {"seeds": seeds, "loss": {"reg": reg}, "train": {"log_every": log_every, "epochs": 3}}
    return RunConfig(values, free=frozenset({"train.log_every"}))


def test_config_is_written_once_and_recognised(tmp_path):
    with Workdir(tmp_path / "a" / "b") as files:
        first = files.check_config(make_config())
        assert json.loads((files.path / "config.json").read_text())["seeds"] == [1, 2]
        assert files.check_config(make_config()) == first


def test_another_config_is_refused_with_every_differing_key(tmp_path):
    with Workdir(tmp_path) as files:
        files.check_config(make_config())
        files.append_metrics({"step": 1})
        files.flush_metrics()
        with pytest.raises(UserError) as error:
            files.check_config(make_config(reg=2.0, seeds=(1,)))
        message = str(error.value)
        assert "loss.reg was 1.0, now 2.0" in message
        assert "seeds was [1, 2], now [1]" in message
        assert "epochs" not in message
        assert files.read_json("config.json")["loss"]["reg"] == 1.0


def test_keys_that_appear_or_vanish_are_differences(tmp_path):
    with Workdir(tmp_path) as files:
        files.check_config(make_config())
        files.checkpoints.mkdir()
        with pytest.raises(UserError, match=r"loss was \{.*\}, now absent"):
            files.check_config(RunConfig({"seeds": (1, 2), "train": {"log_every": 10, "epochs": 3}}))


def test_a_start_that_was_refused_leaves_the_folder_to_the_mended_command(tmp_path):
    with Workdir(tmp_path) as files:
        files.check_config(make_config())
        files.write_json("splits.json", {})
    with Workdir(tmp_path) as files:
        files.check_config(make_config(reg=2.0))
        assert files.read_json("config.json")["loss"]["reg"] == 2.0
        assert not (tmp_path / "splits.json").exists()


def test_keys_without_effect_may_change(tmp_path):
    with Workdir(tmp_path) as files:
        files.check_config(make_config())
        files.check_config(make_config(log_every=1))
        assert files.read_json("config.json")["train"]["log_every"] == 1


def test_what_an_earlier_version_wrote_is_brought_up_to_date_before_it_is_compared(tmp_path):
    (tmp_path / "config.json").write_text('{"regularization": 1.0}')
    (tmp_path / "metrics.jsonl").write_text("")
    renamed = RunConfig({"reg": 1.0}, upgrade=lambda written: {key[:3]: value for key, value in written.items()})
    with Workdir(tmp_path) as files:
        files.check_config(renamed)
        assert files.read_json("config.json") == {"reg": 1.0}
        with pytest.raises(UserError, match=r"reg was 1\.0, now 2\.0"):
            files.check_config(RunConfig({"reg": 2.0}, upgrade=renamed.upgrade))


def test_a_torn_config_is_reported(tmp_path):
    (tmp_path / "config.json").write_text('{"seeds": [1,')
    with Workdir(tmp_path) as files, pytest.raises(UserError, match=r"config.json: half-written or damaged"):
        files.check_config(make_config())


def test_one_process_at_a_time(tmp_path):
    with Workdir(tmp_path), pytest.raises(UserError, match="in use by another process"):
        Workdir(tmp_path)
    Workdir(tmp_path).close()


def test_a_killed_process_leaves_no_lock(tmp_path):
    imported = "from dear_jax.files.workdir import Workdir"
    code = f"{imported}; w = Workdir({str(tmp_path)!r}); print('held', flush=True); input()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        process.stdout.readline()
        with pytest.raises(UserError, match="in use"):
            Workdir(tmp_path)
        process.send_signal(signal.SIGKILL)
    Workdir(tmp_path).close()


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the workdir .*file/run: Not a directory"):
        Workdir(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="File exists"):
        Workdir(tmp_path / "file")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS])
def test_what_the_disk_refuses_names_the_file_and_keeps_the_old_one(tmp_path, monkeypatch, number):
    with Workdir(tmp_path) as files:
        files.write_json("results.json", {"base": 1})

        def refuse(*arguments):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(UserError, match=f"results.json: {os.strerror(number)}"):
            files.write_json("results.json", {"base": 2})
        assert files.read_json("results.json") == {"base": 1}
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "results.json"]


def test_what_killed_writes_left_is_removed_at_the_next_start_and_nothing_else(tmp_path):
    code = f"""
import os
from dear_jax.files.workdir import Workdir
os.replace = lambda *names: os.kill(os.getpid(), 9)
Workdir({str(tmp_path)!r}).write_json("results.json", {{}})
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".results.json.*"))
    others = {".hidden", ".cache.settings", "a.12345678.tmp"}
    for name in others:
        (tmp_path / name).touch()
    live = tmp_path / ".results.json.abcdefgh.tmp"
    with Workdir(tmp_path):
        assert not list(tmp_path.glob(".results.json.*"))
        live.touch()
        with pytest.raises(UserError, match="in use"):
            Workdir(tmp_path)
        assert live.exists()
    with Workdir(tmp_path):
        assert not list(tmp_path.glob(".results.json.*"))
        assert others <= {path.name for path in tmp_path.iterdir()}


def test_a_name_that_is_no_utf8_is_written(tmp_path):
    with Workdir(tmp_path) as files:
        files.write_text("a.csv", os.fsdecode(b"caf\xe9.jpg, caf\xc3\xa9"))
        assert (tmp_path / "a.csv").read_text("utf-8") == "caf\\udce9.jpg, caf\N{LATIN SMALL LETTER E WITH ACUTE}"


def test_numbers_become_json(tmp_path):
    with Workdir(tmp_path) as files:
        files.write_json("results.json", {"a": np.float32(0.5), 1: jnp.arange(2), "b": (float("nan"), np.inf)})
        assert files.read_json("results.json") == {"a": 0.5, "1": [0, 1], "b": [None, None]}


def test_metrics_after_the_step_and_a_torn_row_are_dropped(tmp_path):
    with Workdir(tmp_path) as files:
        files.trim_metrics(5)  # nothing there yet
        for step in range(1, 5):
            files.append_metrics({"step": step, "loss": np.float32(step)})
        path = tmp_path / "metrics.jsonl"
        with path.open("a") as file:
            file.write('{"step": 2, "lo')
        files.trim_metrics(2)
        files.append_metrics({"step": 3, "loss": float("inf")})
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        assert rows == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 3, "loss": None}]
        files.trim_metrics(-1)
        assert path.read_text() == ""
