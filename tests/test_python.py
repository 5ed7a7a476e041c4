"""Training and evaluation from Python: configs by name, the same refusals as the command line's, results as tables."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from absl import flags

import dear_jax
from dear_jax import UserError, jobs, main
from dear_jax.data.protocols import summarize
from dear_jax.setup import values
from tests.repository import REPOSITORY


@pytest.fixture
def finished(write_run) -> Path:
    """The workdir of a finished run of two seeds."""
    rows = {"1": {"base": 80.0, "new": 70.0, "hm": 74.67}, "2": {"base": 82.0, "new": 72.0, "hm": 76.68}}
    folder = write_run("run", rows)
    results = json.loads((folder / "results.json").read_text())
    mean, std = summarize(list(rows.values()))
    results["variants"]["default"] |= {"mean": mean, "std": std, "new_classes": {}}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def with_job(monkeypatch):
    """Puts a function in the place of every job's `run`; its plan is the config."""

    def place(run):
        def make_plan(config):
            return SimpleNamespace(config=config, label=config.job)

        monkeypatch.setattr(jobs.Job, "load", lambda row: SimpleNamespace(make_plan=make_plan, run=run))

    return place


@pytest.mark.parametrize(
    ("keys", "flags"),
    [
        ({}, []),
        ({"seeds": (4, 5)}, ["seeds=4,5"]),
        ({"seeds": range(1, 3)}, ["seeds=1,2"]),
        ({"seeds": 7}, ["seeds=7"]),
        ({"data": {"shots": 4, "root": Path("DATA")}}, ["data.shots=4", "data.root=DATA"]),
        ({"data.shots": 4, "data": {"flip": False}}, ["data.shots=4", "data.flip=false"]),
        ({"data": {"crop_scale": [0.08, 1]}}, ["data.crop_scale=0.08,1"]),
        ({"train": {"epochs": None}}, ["train.epochs=None"]),
        ({"optimizer": {"learning_rate": 1e-5}}, ["optimizer.learning_rate=1e-5"]),
        ({"eval": {"new_classes": 0.9, "rules": (0, 0.9)}}, ["eval.new_classes=0.9", "eval.rules=0,0.9"]),
        ({"mask": {"pattern": "open"}}, ["dear.mask.pattern=open"]),  # an earlier name
    ],
)
def test_keys_are_what_their_flags_are(keys, flags):
    parsed, *_ = main.parse(["--config=base2new", *(f"--config.{flag}" for flag in flags)])
    config = dear_jax.config("base2new", **keys)
    assert values.flat_values(config) == values.flat_values(parsed)
    assert config.is_locked


def test_a_config_has_its_data_set_and_may_be_changed():
    config = dear_jax.config("configs/few_shot.py:oxford_pets")
    assert (config.data.dataset, config.protocol) == ("oxford_pets", "few_shot")
    config.data.shots = 4
    config.train.epochs = 3
    assert (config.data.shots, config.train.epochs) == (4, 3)


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("base3new", {}, "no file 'base3new'"),
        ("base2new", {"seed": 1}, r"unknown config key 'seed'\. Did you mean seeds\?"),
        ("base2new", {"data": {"shot": 1}}, r"unknown config key 'data\.shot'\. Did you mean data\.shots\?"),
        ("base2new", {"mask": 1}, r"It is a group of keys: .*dear\.mask\.pattern"),
        ("base2new", {"data": {"shots": 1.5}}, r"wrong value: config\.data\.shots=1\.5: expected int, found '1\.5'"),
        ("base2new", {"data": {"shots": None}}, r"config\.data\.shots is None, and has no such value"),
        ("base2new", {"mmrl": {"reg": 1.0}}, r"config\.mmrl\.reg is a key of the method mmrl, and config\.method is"),
    ],
)
def test_what_the_command_line_refuses(name, keys, message):
    with pytest.raises(UserError, match=message):
        dear_jax.config(name, **keys)


def test_training_gives_the_results_of_its_workdir(with_job, finished, capsys):
    calls = []
    with_job(lambda plan, workdir: calls.append((plan.config.job, workdir)))
    results = dear_jax.train(dear_jax.config("base2new"), finished)
    assert calls == [("train", finished)]
    assert f"workdir: {finished}" in capsys.readouterr().out
    assert results.workdir == finished
    assert results["variants"]["default"]["seeds"]["2"]["base"] == 82.0
    assert {*results} >= {"zero_shot", "variants", "dataset"}
    assert "| DeAR, mean ± std | **81.00** ± 1.00 |" in repr(results)
    html = results._repr_html_()
    assert "<strong>81.00</strong> ± 1.00" in html
    assert html.count("<table") == repr(results).count("\n| --- |")
    rows = results.rows()
    assert [(row["variant"], row["seed"], row["base"]) for row in rows] == [
        ("zero-shot CLIP", None, 50.0),
        ("default", 1, 80.0),
        ("default", 2, 82.0),
    ]


def test_evaluation_does_its_own_job_with_the_config_of_a_protocol(with_job, finished):
    calls = []
    with_job(lambda plan, workdir: calls.append(plan.config.job))
    config = dear_jax.config("few_shot", run="runs/mine")
    dear_jax.evaluate(config, finished)
    assert (calls, config.job) == (["evaluate"], "train")


def test_any_job_is_done_and_gives_its_workdir(with_job, tmp_path):
    calls = []
    with_job(lambda plan, workdir: calls.append((plan.config.job, plan.config.run)))
    assert dear_jax.run(dear_jax.config("retrieve", run="runs/mine"), tmp_path / "there") == tmp_path / "there"
    assert calls == [("retrieve", "runs/mine")]


def test_a_notebook_shows_the_message_of_a_mistake_alone():
    assert UserError("no such key")._render_traceback_() == ["error: no such key"]


def test_a_program_keeps_its_own_settings(with_job, finished):
    seen = []
    with_job(lambda plan, workdir: seen.append(jax.config.jax_default_matmul_precision))
    before = jax.config.jax_default_matmul_precision, flags.FLAGS["verbosity"].value
    config = dear_jax.config("base2new", compute={"matmul_precision": "bfloat16"})
    dear_jax.train(config, finished)
    assert seen == ["bfloat16"]
    assert (jax.config.jax_default_matmul_precision, flags.FLAGS["verbosity"].value) == before


def test_without_a_workdir_there_is_a_new_one(with_job, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_job(lambda plan, workdir: finished.rename(tmp_path / workdir))
    (tmp_path / "runs").mkdir()
    assert str(dear_jax.train(dear_jax.config("base2new")).workdir).startswith("runs/train-2")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: "base2new", r"expected a config, as dear_jax\.config\('base2new'\) gives it, found 'base2new'"),
        (lambda: dear_jax.config("predict"), r"is 'predict': dear_jax\.train takes the config of a protocol"),
        (lambda: dear_jax.config("base2new", train={"epochs": -1}), r"config\.train\.epochs is -1, expected"),
        (lambda: dear_jax.config("base2new", compute={"matmul_precision": "double"}), "found 'double'"),
    ],
)
def test_mistakes_are_raised_and_leave_no_folder(config, message, tmp_path):
    with pytest.raises(UserError, match=message):
        dear_jax.train(config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_full_disk_and_a_stop(with_job, tmp_path):
    def full(plan, workdir):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "some/cache")

    with_job(full)
    with pytest.raises(UserError, match="some/cache: No space left on device"):
        dear_jax.train(dear_jax.config("base2new"), tmp_path)

    def stopped(plan, workdir):
        raise SystemExit(130)

    with_job(stopped)
    with pytest.raises(KeyboardInterrupt, match="goes on from here"):
        dear_jax.train(dear_jax.config("base2new"), tmp_path)


def test_a_workdir_that_holds_no_run(tmp_path):
    with pytest.raises(UserError, match=r"holds no results\.json"):
        dear_jax.Results(tmp_path)


def test_public_names():
    assert {*dear_jax.__all__} <= {*dir(dear_jax)}
    for name in dear_jax.__all__:
        assert getattr(dear_jax, name)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = dear_jax.trian


def test_reading_a_config_imports_no_jax_and_a_classifier_quiets_as_the_command_line_does(tmp_path):
    (tmp_path / "libtpu.py").write_text("def get_library_path(): return 'no such library'")
    code = (
        "import os, sys, dear_jax; dear_jax.config('base2new'); assert 'jax' not in sys.modules\n"
        "from dear_jax import Classifier; import jax; jax.devices()\n"
        "print(jax.config.jax_platforms, os.environ['TF_CPP_MIN_LOG_LEVEL'], os.environ['TRANSFORMERS_VERBOSITY'])"
    )
    unset = ("JAX_PLATFORMS", "TF_CPP_MIN_LOG_LEVEL", "TRANSFORMERS_VERBOSITY")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("cpu 2 error\n", "")


def test_another_thread_than_the_first_can_train():
    from dear_jax.training.interruption import Interruption

    found = []

    def work():
        with Interruption() as interruption:
            found.append(interruption.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
