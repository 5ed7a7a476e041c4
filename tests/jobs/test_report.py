"""The job `report`: the page of a finished run in a folder of its own; what is no such run is answered."""

import json

import pytest

from dear_jax import main
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base.py'}"
JOB = [CONFIG, "--config.job=report"]


@pytest.fixture
def older_run(tmp_path):
    """As an earlier version left it, without what only the page shows."""
    run = tmp_path / "run"
    run.mkdir()
    row = {"accuracy": 60.0}
    seeds = {"seeds": {"1": row}, "mean": row, "std": {"accuracy": 0.0}, "fusion": {}}
    results = {
        "protocol": "few_shot",
        "dataset": "pets",
        "backbone": "tiny",
        "shots": 4,
        "variants": {"default": seeds},
        "zero_shot": row,
        "data": {"comparable": False, "remark": ""},
    }
    (run / "results.json").write_text(json.dumps(results))
    (run / "config.json").write_text(json.dumps({"job": "train", "data": {"shots": 4}, "mask": {"pattern": "open"}}))
    return run


def test_an_older_run_has_a_page(older_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    before = {path.name: path.read_bytes() for path in older_run.iterdir()}
    assert main.main([*JOB, f"--config.run={older_run}", f"--workdir={tmp_path / 'page'}"]) == 0
    assert str(tmp_path / "page" / "report.html") in capsys.readouterr().out
    page = (tmp_path / "page" / "report.html").read_text()
    assert "DeAR on pets" in page
    assert f"Of the run in {older_run}" in page
    assert "config.dear.mask.pattern" in page
    assert {path.name: path.read_bytes() for path in older_run.iterdir()} == before


def test_a_dry_run_makes_the_page_and_writes_nothing(older_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    assert main.main([*JOB, f"--config.run={older_run}", f"--workdir={tmp_path / 'page'}", "--dry_run"]) == 0
    assert "No problem found." in capsys.readouterr().out
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("removed", "said"),
    [
        (None, "config.run is empty"),
        ("results.json", "holds no results.json: the run is not finished"),
        ("config.json", "it is no workdir of a run of dear_jax"),
    ],
)
def test_what_is_no_finished_run_is_answered(older_run, tmp_path, capsys, removed, said):
    run = older_run if removed else ""
    if removed:
        (older_run / removed).unlink()
    assert main.main([*JOB, f"--config.run={run}", f"--workdir={tmp_path / 'page'}"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "page").exists()
