"""Sweeps resume, skip, go on past failures and notice each other."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from dear_jax import main as command_line
from dear_jax.files import lock
from dear_jax.files.workdir import Workdir
from dear_jax.methods import adapter_file
from dear_jax.setup import recipes
from dear_jax.setup.methods import METHODS
from experiments import reproduce
from experiments.sweep import child_process, item_lock
from tests import toy_probe
from tests.repository import REPOSITORY

SCORES = {"base": 80.0, "new": 60.0, "hm": 68.571}
VARIANTS = {"default": {"seeds": {"1": SCORES}, "mean": SCORES, "std": SCORES, "new_classes": {}}}


@pytest.fixture
def started(monkeypatch, embedded_run):
    """Stands for the runs themselves: each leaves config, results and adapter, unless its data set is in `failing`."""

    class Started(list):
        failing = ()

    runs = Started()

    def run(command, output):
        config, workdir, _ = command_line.parse(command[3:])
        config = recipes.resolve(config)
        runs.append(workdir.name)
        if config.data.dataset in runs.failing:
            print("error: no such file", file=output, flush=True)
            return 2
        data = {"comparable": True, "remark": "", "class_names": ["a", "b"]}
        results = dict(protocol=config.protocol, dataset=config.data.dataset, backbone="b", shots=16, data=data)
        results |= dict(zero_shot=SCORES)
        results |= dict(trained_on={"dataset": config.data.dataset, "classes": 1})
        results["method_title"] = METHODS[config.method].TITLE
        (workdir / "config.json").write_text(json.dumps(config.to_dict()))
        (workdir / "results.json").write_text(json.dumps(results | {"variants": VARIANTS}))
        (workdir / "results.md").write_text("")
        shutil.copy(embedded_run / adapter_file.NAME, workdir)
        return 0

    monkeypatch.setattr(child_process, "run", run)
    return runs


def sweep(tmp_path, *flags, data="dtd,eurosat,ucf101"):
    return reproduce.main(["--protocol=base2new", f"--data={data}", f"--workdir={tmp_path}", *flags])


def test_failures_are_listed_and_the_rest_goes_on_and_a_second_start_does_what_is_missing(tmp_path, started, capsys):
    started.failing = ("eurosat",)
    assert sweep(tmp_path) == 1
    assert started == ["base2new-dtd", "base2new-eurosat", "base2new-ucf101"]
    output = capsys.readouterr().out
    assert "2 of 3 runs are done." in output
    assert "  base2new-eurosat: failed: exit code 2: no such file" in output
    assert "| Average over 2 data sets | Base | New | HM |" in output
    assert (tmp_path / "tables.csv").exists()
    started.clear()
    started.failing = ()
    assert sweep(tmp_path) == 0
    assert started == ["base2new-eurosat"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", b""),
        ("results.json", b"{}"),
        ("results.json", b"[]"),
        ("results.json", b"[" * 100_000),
        ("results.md", None),
        ("adapter.safetensors", None),
        ("adapter.safetensors", b"damaged"),
    ],
)
def test_a_run_whose_files_are_damaged_or_gone_is_not_done(tmp_path, started, capsys, name, content):
    assert sweep(tmp_path, data="dtd") == 0
    path = tmp_path / "base2new-dtd" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert sweep(tmp_path, "--dry_run", data="dtd") == 0
    assert "# base2new-dtd: to do" in capsys.readouterr().out
    assert sweep(tmp_path, data="dtd") == 0
    assert started == ["base2new-dtd"] * 2


def test_a_run_that_outlived_its_sweep_is_under_way(tmp_path, started, capsys):
    with Workdir(tmp_path / "base2new-dtd"):
        assert sweep(tmp_path, data="dtd") == 3
    assert not started
    assert "base2new-dtd: under way elsewhere: workdir" in capsys.readouterr().out


def test_what_was_done_with_another_config_is_not_taken_for_done(tmp_path, started, capsys):
    assert sweep(tmp_path, data="dtd") == 0
    assert sweep(tmp_path, "--", "--config.train.epochs=1", data="dtd") == 1
    assert "holds a run of another config: train.epochs was 10, now 1" in capsys.readouterr().out


def test_an_item_under_way_elsewhere_is_left_to_others(tmp_path, started, capsys):
    with item_lock.hold(tmp_path / reproduce.LOCKS, "base2new-eurosat", 600):
        assert sweep(tmp_path) == 3
        assert sweep(tmp_path, "--dry_run") == 0
    assert started == ["base2new-dtd", "base2new-ucf101"]
    output = capsys.readouterr().out
    assert f"base2new-eurosat: under way elsewhere: process {os.getpid()}" in output
    assert "# base2new-dtd: done" in output


def test_what_needs_a_failed_run_is_not_started(tmp_path, started, capsys):
    started.failing = ("world_compositions",)
    assert reproduce.main(["--protocol=all", "--data=world", f"--workdir={tmp_path}", "--shard=13/13"]) == 1
    assert started == ["cross_dataset"]
    assert "domain_generalization: failed: it needs cross_dataset, which is not done" in capsys.readouterr().out


def test_methods_run_side_by_side_and_a_sweep_of_dear_goes_on(tmp_path, started, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "toy_probe", toy_probe)
    assert sweep(tmp_path, data="dtd") == 0
    assert sweep(tmp_path, "--methods=dear,toy_probe", data="dtd,eurosat") == 0
    names = ["base2new-dtd", "base2new-eurosat", "toy_probe-base2new-dtd", "toy_probe-base2new-eurosat"]
    assert started == names
    output = capsys.readouterr().out
    assert "4 of 4 runs are done." in output
    assert "| Linear probe (ours) | 80.00 [" in output
    assert "| Ranks by HM | Average rank |" in output
    assert sweep(tmp_path, "--methods=all", "--dry_run", data="dtd") == 0
    output = capsys.readouterr().out
    assert "# toy_probe-base2new-dtd: done\npython -m dear_jax.main --config=configs/base2new.py:dtd" in output
    assert "--config.method=toy_probe --workdir=" in output


def test_a_method_that_has_no_rule_for_the_classes_is_left_out_and_named(tmp_path, started, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "toy_probe", toy_probe)
    monkeypatch.setattr(toy_probe, "OPEN_CLASSES", False, raising=False)
    assert sweep(tmp_path, "--methods=toy_probe,dear", data="dtd") == 0
    assert started == ["base2new-dtd"]
    assert capsys.readouterr().err.startswith("left out: Linear probe in base2new, where other classes")
    assert sweep(tmp_path, "--methods=toy_probe", data="dtd") == 2
    assert "error: --methods=toy_probe has no run of --protocol=base2new." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods=daer"], "--methods: no method is called 'daer'"),
        (["--", "--config.method=other"], "--config.method=other after --: give --methods=other before it."),
        (["--", "--config.train.epoch=1"], "unknown config key 'config.train.epoch'"),
        (["--shard=3/2"], "--shard: expected i/n"),
        (["--workdir=gs://bucket/sweep"], "--workdir: "),
    ],
)
def test_mistakes_are_answered_before_any_run(tmp_path, started, capsys, flags, message):
    assert sweep(tmp_path, *flags) == 2
    assert message in capsys.readouterr().err
    assert not started


def test_exit_codes_of_a_command(tmp_path):
    with (tmp_path / "log").open("a") as log:
        assert child_process.run([sys.executable, "-c", "print('a'); raise SystemExit(3)"], log) == 3
        with pytest.raises(child_process.Interrupted) as error:
            child_process.run([sys.executable, "-c", "raise SystemExit(143)"], log)
    assert error.value.exit_code == 143
    assert (tmp_path / "log").read_text() == "a\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a call of Linux")
def test_a_command_is_told_when_its_sweep_is_killed(tmp_path):
    """Otherwise it would go on alone, and the next start would meet it."""
    child = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (print('told', flush=True), exit())); "
    child += "print('ready', flush=True); time.sleep(60)"
    sweep = f"import sys; from experiments.sweep import child_process; log = open({str(tmp_path / 'log')!r}, 'w'); "
    sweep += f"child_process.run([sys.executable, '-c', {child!r}], log)"
    process = subprocess.Popen([sys.executable, "-c", sweep], cwd=REPOSITORY)
    wait_for(lambda: (tmp_path / "log").exists() and "ready" in (tmp_path / "log").read_text(), 60)
    process.kill()
    process.wait()
    wait_for(lambda: "told" in (tmp_path / "log").read_text(), 30)


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def at_work(sweep):
    """Whether a run holds the lock of its workdir."""
    for path in sweep.glob(f"*/{lock.NAME}"):
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_sweep_of_the_embedded_world_is_interrupted_killed_and_completed(tmp_path):
    command = [sys.executable, "-m", "experiments.reproduce", "--protocol=all", "--data=world", f"--workdir={tmp_path}"]
    command += ["--shard=13/13", "--", "--config.seeds=1", "--config.train.batch_size=16"]
    training, locks = tmp_path / "cross_dataset", tmp_path / reproduce.LOCKS

    process = subprocess.Popen(command, cwd=REPOSITORY)
    wait_for(lambda: (training / "config.json").exists(), 120)
    process.send_signal(signal.SIGTERM)
    assert process.wait(300) == 143
    assert not list(locks.iterdir())

    process = subprocess.Popen(command, cwd=REPOSITORY)
    wait_for(lambda: locks.exists() and list(locks.iterdir()), 120)
    process.kill()
    process.wait()
    assert list(locks.iterdir())  # the lock of the dead; its run is told to stop
    wait_for(lambda: not at_work(tmp_path), 600)

    assert subprocess.run(command, cwd=REPOSITORY).returncode == 0
    table = (tmp_path / "tables.md").read_text()
    assert "## Cross-dataset transfer, embedded world" in table
    assert "## Domain generalization, embedded world" in table
    assert not (tmp_path / "domain_generalization" / "checkpoints").exists()  # evaluated, not trained
