"""The evaluation that also ablates heads: its files, its page, and what it refuses before anything is measured."""

import json

import pytest

from dear_jax import main
from dear_jax.data.world import tasks
from dear_jax.roles import role_map
from tests.report.page import check_self_contained

pytestmark = pytest.mark.usefixtures("compilation_cache", "few_test_scenes", "in_the_repository")
CONFIG = "--config=configs/base2new.py:world_compositions"
JOB = ["--config.job=evaluate", "--config.roles.images=40", "--config.eval.ablation=auto"]


def test_a_run_and_zero_shot_clip(embedded_run, tmp_path, capsys):
    run = f"--config.run={embedded_run}"
    assert main.main([CONFIG, *JOB, run, f"--workdir={tmp_path}"]) == 0
    found = json.loads((tmp_path / "ablation.json").read_text())
    results = json.loads((tmp_path / "results.json").read_text())
    assert found["role_map"]["file_sha256"] == results_of_map()
    assert (found["images"], found["first_layer"]) == (40, 5)
    for name, of_set in found["class_sets"].items():
        assert of_set["zero_shot"]["accuracy"] == pytest.approx(results["zero_shot"][name], abs=1e-6)
        assert set(of_set["variants"]) == {"open", "random"}
        for variant, curves in of_set["variants"].items():
            assert curves["accuracy"] == pytest.approx(results["variants"][variant]["mean"][name], abs=1e-6)
            assert (curves["points"][0], curves["points"][-1], curves["orders"]) == (0, 24, 30)
            assert set(curves["scores"]) == {"entropy", "variance", "attribution"}
    html = (tmp_path / "report.html").read_text()
    check_self_contained(html)
    assert "Base: accuracy without ever more heads" in html
    capsys.readouterr()
    assert main.main([CONFIG, *JOB, run, "--dry_run"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "layers 5 to 7 means of 40 images" in printed


def results_of_map() -> str:
    return role_map.describe(role_map.load(role_map.EMBEDDED), role_map.EMBEDDED)["file_sha256"]


def test_zero_shot_clip_alone_by_a_map_of_other_layers(tmp_path):
    config = "--config=configs/find_roles.py"
    made = ["--config.roles.first_layer=6", "--config.roles.images=100", "--config.roles.rank=20"]
    assert main.main([config, *made, f"--workdir={tmp_path / 'map'}"]) == 0
    asked = f"--config.eval.ablation={tmp_path / 'map' / 'role_map.json'}"
    assert main.main([CONFIG, *JOB[:-1], asked, f"--workdir={tmp_path / 'run'}"]) == 0
    found = json.loads((tmp_path / "run" / "ablation.json").read_text())
    assert found["first_layer"] == 6
    assert found["class_sets"]["new"]["zero_shot"]["points"][-1] == 16
    assert found["class_sets"]["new"]["variants"] == {}


def test_what_cannot_be_ablated_is_refused_first(tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(tasks, "TEST_SCENES", 40)
    train = ["--config.method=tip_adapter", "--config.data.shots=1", "--config.seeds=1", f"--workdir={run}"]
    assert main.main([CONFIG.replace("base2new", "few_shot"), *train]) == 0
    capsys.readouterr()
    flags = [CONFIG.replace("base2new", "few_shot"), *JOB]
    for last in ([f"--workdir={tmp_path / 'out'}"], ["--dry_run"]):
        assert main.main([*flags, f"--config.run={run}", *last]) == 2
        error = capsys.readouterr().err
        assert "config.eval.ablation takes contributions of heads out of what a method predicts." in error
        assert "There are no maps of TipAdapter" in error
        assert main.main([*flags, "--config.eval.ablation=absent.json", *last]) == 2
        assert "Role map absent.json cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()
