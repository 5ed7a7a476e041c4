"""Runs on the hub: put there by the job `push` without a trace of this machine, and loaded from there like any run."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants

from dear_jax import Classifier, main
from dear_jax.data.world import tasks
from dear_jax.errors import UserError
from dear_jax.files import hub
from dear_jax.methods import adapter_file
from dear_jax.report import runs
from dear_jax.setup import config_files
from tests.emulated_hub import NOWHERE, READER, use_endpoint
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("in_the_repository")
NAMES = {"adapter.safetensors", "config.json", "results.json", "report.html", "README.md"}
AT_HUB = ["--config.run=hf://me/pets"]
ROW, CLASSES = {"accuracy": 60.0}, ("red heart", "blue star", "green circle")


@pytest.fixture
def run(embedded_run, tmp_path) -> Path:
    """A finished run whose files speak of this machine wherever they can."""
    folder = tmp_path / "secret" / "run"
    folder.mkdir(parents=True)
    trained = dataclasses.replace(adapter_file.load(embedded_run), backbone=str(tmp_path / "secret" / "my_clip"))
    (folder / adapter_file.NAME).write_bytes(adapter_file.to_bytes(trained))
    config = json.loads(json.dumps(config_files.load("configs/few_shot.py").to_dict()))
    config["backbone"], config["data"]["root"] = trained.backbone, str(tmp_path / "secret" / "photos")
    config["classes"] = "~secret/names.txt"
    config["variants"] = "mine: dear.mask.file=/srv/secret/mask.json | rates"
    config["compute"]["coordinator"] = "secret-host:1234"
    seeds = {"seeds": dict.fromkeys("37", ROW), "mean": ROW, "std": {"accuracy": 0.0}, "new_classes": {}}
    picture = {"galleries": {"errors": [{"image": "secret.png"}]}, "pairs": {}, "changes": {}}
    results = {
        "protocol": "few_shot",
        "dataset": "photos",
        "backbone": trained.backbone,
        "shots": 1,
        "method_title": "DeAR",
        "variants": {"open": seeds, "random": seeds},
        "zero_shot": ROW,
        "trained_on": {"dataset": "photos", "classes": 3},
        "data": {
            "comparable": False,
            "source": "folder",
            "splits": "folders train, test",
            "remark": "Left out: /home/secret/a.png.",
            "skipped": {"images": [f"The image {tmp_path}/secret/photos/b.png is empty: 0 bytes."]},
        },
        "config_sha256": "0",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "examples.json").write_text(json.dumps({"pictures": ["secret"], "class_sets": {"accuracy": picture}}))
    return folder


def push(run: Path, tmp_path: Path, *more: str) -> int:
    flags = [f"--config.run={run}", "--config.repo=me/pets", f"--workdir={tmp_path / 'push'}", *more]
    return main.main(["--config=configs/push.py", *flags])


def uploaded(server) -> dict[str, bytes]:
    return server.repositories["me/pets"][-1][1]


def test_nothing_of_this_machine_is_uploaded(run, tmp_path, emulated_hub, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert push(run, tmp_path, "--config.run_backbone=openai/clip-vit-base-patch16") == 0
    files = uploaded(emulated_hub)
    commit = emulated_hub.repositories["me/pets"][-1][0]
    assert f"hf://me/pets@{commit}" in capsys.readouterr().out
    assert files.keys() == NAMES
    for name, content in files.items():
        assert b"secret" not in content, name
        assert str(Path.home()).encode() not in content, name
        assert (tmp_path / "push" / "upload" / name).read_bytes() == content
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    config = json.loads(files["config.json"])
    assert config["backbone"] == json.loads(files["results.json"])["backbone"] == "openai/clip-vit-base-patch16"
    assert (config["data"]["root"], config["variants"]) == ("LOCAL", "mine: dear.mask.file=LOCAL | rates")
    assert "Left out: LOCAL" in json.loads(files["results.json"])["data"]["remark"]
    assert ModelCard(files["README.md"].decode()).data.base_model == "openai/clip-vit-base-patch16"
    assert "--config.data.root=LOCAL" in files["README.md"].decode()
    found = adapter_file.load(tmp_path / "push" / "upload")
    expected = dataclasses.replace(adapter_file.load(run), backbone="openai/clip-vit-base-patch16")
    assert adapter_file.to_bytes(found) == adapter_file.to_bytes(expected)


def test_a_second_push_is_a_second_commit_and_a_revision_stays(run, tmp_path, emulated_hub, hub_cache):
    assert push(run, tmp_path, "--config.push.private=true") == 0
    assert "me/pets" in emulated_hub.private
    trained = adapter_file.load(run)
    (run / adapter_file.NAME).write_bytes(adapter_file.to_bytes(dataclasses.replace(trained, shots=7)))
    assert push(run, tmp_path, "--config.push.private=true") == 0
    first, second = (commit for commit, _ in emulated_hub.repositories["me/pets"])
    assert adapter_file.load("hf://me/pets").shots == 7
    assert adapter_file.load(f"hf://me/pets@{first}").shots == 1
    asked = len(emulated_hub.requests)
    assert adapter_file.load(f"hf://me/pets@{second}").shots == 7  # a commit that the cache has is asked for no more
    assert len(emulated_hub.requests) == asked
    assert {path.name for path in hub_cache.glob("models--me--pets/snapshots/*/*")} == {*hub.RUN_FILES}
    with pytest.raises(UserError, match="has no such revision: give a branch, a tag or a commit"):
        adapter_file.load("hf://me/pets@v9")


@pytest.mark.filterwarnings("ignore:Use 'content=")  # of the hub's library itself
def test_large_files_go_the_way_of_git_lfs(run, tmp_path, emulated_hub):
    trained = adapter_file.load(run)
    (part,) = trained.parts
    large = dataclasses.replace(part, adapter=part.adapter | {"more": np.zeros((2, 2, 100_000), np.float32)})
    content = adapter_file.to_bytes(dataclasses.replace(trained, backbone="embedded", parts=(large,)))
    (run / adapter_file.NAME).write_bytes(content)
    assert push(run, tmp_path) == 0
    assert list(emulated_hub.blobs.values()) == [content]
    assert adapter_file.to_bytes(adapter_file.load("hf://me/pets")) == content


def test_the_cache_is_enough_without_the_hub(run, tmp_path, emulated_hub, monkeypatch, capsys):
    assert push(run, tmp_path) == 0
    commit = emulated_hub.repositories["me/pets"][-1][0]
    expected = adapter_file.to_bytes(adapter_file.load("hf://me/pets"))
    use_endpoint(monkeypatch, NOWHERE)
    capsys.readouterr()
    assert adapter_file.to_bytes(adapter_file.load("hf://me/pets")) == expected
    said = capsys.readouterr().out
    assert f"the copy in the cache counts, commit {commit}; not asked for a newer one (Connect" in said
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert adapter_file.to_bytes(adapter_file.load("hf://me/pets")) == expected
    assert "(HF_HUB_OFFLINE is set" in capsys.readouterr().out
    assert hub.cached_run("hf://me/pets").name == commit
    assert hub.pinned("hf://me/pets") == hub.pinned(f"hf://me/pets@{commit}") == f"hf://me/pets@{commit}"
    assert hub.pinned("runs/pets") == "runs/pets"
    assert hub.cached_run("hf://me/cats") is None


def test_jobs_take_a_run_on_the_hub(run, tmp_path, emulated_hub, capsys):
    assert push(run, tmp_path) == 0
    job = ["--config=configs/base.py", "--config.job=report"]
    assert main.main([*job, *AT_HUB, f"--workdir={tmp_path / 'page'}"]) == 0
    page = (tmp_path / "page" / "report.html").read_text()
    assert "DeAR on photos" in page
    assert "Of the run in hf://me/pets" in page
    capsys.readouterr()
    trained = adapter_file.load(run)
    flags = [*AT_HUB, "--config.run_backbone=embedded", "--dry_run"]
    (tmp_path / "a.png").write_bytes(b"")
    for job, more in (("predict", [f"--config.images={tmp_path}/*.png"]), ("retrieve", [])):
        assert main.main([f"--config=configs/{job}.py", *flags, *more]) == 0
        assert f"embedded ({trained.fingerprint})" in capsys.readouterr().out.replace("my_clip", "embedded")
    assert main.main(["--config=configs/few_shot.py", "--config.job=evaluate", *flags]) == 0


def test_tables_of_an_evaluation_know_the_training_from_the_cache(run, tmp_path, emulated_hub, monkeypatch):
    assert push(run, tmp_path) == 0
    evaluated = tmp_path / "evaluated"
    shutil.copytree(run, evaluated)
    config = json.loads((run / "config.json").read_text()) | {"job": "evaluate", "run": "hf://me/pets"}
    (evaluated / "config.json").write_text(json.dumps(config))
    assert runs.read_run(evaluated).training == {}
    adapter_file.load("hf://me/pets")
    use_endpoint(monkeypatch, NOWHERE)
    assert runs.read_run(evaluated).training["data.root"] == "LOCAL"


def test_a_classifier(run, tmp_path, emulated_hub):
    trained = dataclasses.replace(adapter_file.load(run), backbone="embedded")
    (run / adapter_file.NAME).write_bytes(adapter_file.to_bytes(trained))
    assert push(run, tmp_path) == 0
    commit = emulated_hub.repositories["me/pets"][-1][0]
    images = [tasks.load("world_compositions").test.load(index) for index in range(2)]
    expected = Classifier.load(run, seed=3)(images).probabilities
    np.testing.assert_array_equal(Classifier.load("me/pets", seed=3)(images).probabilities, expected)
    assert Classifier.load(f"me/pets@{commit}", seed=3).classes == CLASSES


def test_a_folder_of_that_name_comes_first(embedded_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.address("me/pets") == "hf://me/pets"
    assert hub.address("me/pets@v1") == "hf://me/pets@v1"
    for name in ("pets", "/me/pets", "a/b/c", "~/pets", "gs://me/pets"):
        assert hub.address(name) == name
    shutil.copytree(embedded_run, tmp_path / "me" / "pets")
    assert hub.address("me/pets") == "me/pets"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config.run="], "config.run is '', expected the workdir of a finished training run"),
        (["--config.run=hf://me/cats"], "config.run is 'hf://me/cats', expected the workdir"),
        (["--config.repo="], "config.repo is '', expected a repository of the Hugging Face Hub as USER/NAME"),
        (["--config.repo=../pets"], "config.repo is '../pets', expected"),
        (["--config.run_backbone=/srv/clip"], "config.run_backbone is '/srv/clip', expected the repository of the"),
        (["--config.run=absent"], "no file or folder absent"),
    ],
)
def test_what_cannot_be_pushed(run, tmp_path, emulated_hub, capsys, flags, said):
    assert push(run, tmp_path, *flags) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not emulated_hub.repositories
    assert not (tmp_path / "push").exists()


@pytest.mark.parametrize(
    ("removed", "said"), [("results.json", "holds no results.json"), ("config.json", "holds no config.json")]
)
def test_unfinished_runs_are_not_pushed(run, tmp_path, emulated_hub, capsys, removed, said):
    (run / removed).unlink()
    assert push(run, tmp_path) == 2
    assert said in capsys.readouterr().err
    assert not emulated_hub.requests


@pytest.mark.parametrize("removed", ["version", "method_title", "trained_on", "config_sha256"])
def test_runs_of_older_versions_are_pushed(run, tmp_path, emulated_hub, removed):
    results = json.loads((run / "results.json").read_text())
    results.pop(removed, None)
    (run / "results.json").write_text(json.dumps(results))
    (run / "examples.json").unlink()
    assert push(run, tmp_path) == 0


def test_a_dry_run_says_what_would_be_uploaded(run, tmp_path, emulated_hub, capsys):
    assert push(run, tmp_path, "--dry_run") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*NAMES, "me/pets"))
    assert not emulated_hub.requests


def test_who_may_not_write_is_told_so(run, tmp_path, emulated_hub, monkeypatch, capsys):
    for token, said in (
        (None, "takes files only from those whom it knows: run `hf auth login`, or set HF_TOKEN"),
        ("hf_wrong", "(it does not know you: run `hf auth login` again)"),
        (READER.removeprefix("Bearer "), "(you have no right to: log in by `hf auth login` as one who has"),
    ):
        monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
        assert push(run, tmp_path) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not emulated_hub.repositories
    assert (tmp_path / "push" / "upload" / "README.md").exists()


def test_pushing_without_a_hub(run, tmp_path, hub_cache, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    assert push(run, tmp_path) == 2
    assert "it could not be uploaded to http://127.0.0.1:9/me/pets (Connect" in capsys.readouterr().err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert push(run, tmp_path) == 2
    assert "(HF_HUB_OFFLINE is set: unset it)" in capsys.readouterr().err


def test_what_cannot_be_loaded(run, tmp_path, emulated_hub, monkeypatch):
    emulated_hub.repositories["me/empty"] = [("0" * 40, {"pytorch_model.bin": b"pickle"})]
    for name, said in (
        ("hf://me/absent", "there is no such public repository: correct the name, or run `hf auth login` if it"),
        ("hf://me/empty", "hf://me/empty holds no adapter.safetensors: it is no run of dear_jax"),
        ("hf://me", "expected a repository of the Hugging Face Hub as hf://USER/NAME or hf://USER/NAME@REVISION"),
        ("hf://me/pets.git", "expected a repository of the Hugging Face Hub as hf://USER/NAME"),
        ("hf://me/a..b", "expected a repository of the Hugging Face Hub as hf://USER/NAME"),
        ("hf://me/pets@", "expected a repository of the Hugging Face Hub as hf://USER/NAME"),
        ("runs/absent", "or hf://USER/NAME for one on the Hugging Face Hub"),
    ):
        with pytest.raises(UserError, match=said):
            adapter_file.load(name)
    use_endpoint(monkeypatch, NOWHERE)
    with pytest.raises(UserError, match=r"not be fetched from http://127.0.0.1:9 \(Connect.* cache folder .* has no"):
        adapter_file.load("hf://me/pets")


@pytest.mark.slow
def test_processes_take_the_endpoint_and_the_cache_from_the_environment(run, tmp_path, emulated_hub):
    """As users do it: a push, a prediction, and a prediction without the hub."""
    trained = dataclasses.replace(adapter_file.load(run), backbone="embedded")
    (run / adapter_file.NAME).write_bytes(adapter_file.to_bytes(trained))
    environment = os.environ | {"HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_HUB_DISABLE_XET": "1"}
    images = f"--config.images={REPOSITORY}/experiments/**/*.png"

    def start(*flags: str, **more: str) -> str:
        command = [sys.executable, "-m", "dear_jax.main", *flags]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment | more).stdout

    start("--config=configs/push.py", f"--config.run={run}", "--config.repo=me/pets", f"--workdir={tmp_path / 'push'}")
    said = start("--config=configs/predict.py", *AT_HUB, images, f"--workdir={tmp_path / 'one'}")
    assert "hf://me/pets: commit" in said
    start("--config=configs/predict.py", *AT_HUB, images, f"--workdir={tmp_path / 'two'}", HF_HUB_OFFLINE="1")
    assert (tmp_path / "one" / "probabilities.csv").read_text() == (tmp_path / "two" / "probabilities.csv").read_text()
