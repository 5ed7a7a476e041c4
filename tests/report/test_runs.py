"""Workdirs are read, and every bad one is named without hiding the others."""

import json

import pytest

from dear_jax.report.runs import find_runs

SCORES = {"1": {"base": 80.0, "new": 60.0, "hm": 68.57}}


def change(folder, **changes):
    content = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(content | changes))


def test_runs_are_found_below_a_folder_and_each_once(write_run, tmp_path):
    first, second = write_run("sweep/a", SCORES), write_run("sweep/deep/b", SCORES, variants=("roles", "open"))
    (first / "checkpoints").mkdir()
    (first / "checkpoints" / "config.json").write_text("{}")
    runs, problems = find_runs([second, tmp_path / "sweep", first])
    assert problems == []
    assert [run.folder for run in runs] == [second, first]
    assert runs[0].variants == {"roles": SCORES, "open": SCORES}
    assert runs[1].zero_shot == {"base": 50.0, "new": 50.0, "hm": 50.0}
    assert (runs[1].protocol, runs[1].dataset, runs[1].shots) == ("base2new", "dtd", 16)
    assert runs[1].method == "DeAR"
    assert runs[1].config["dear.tokens.beta"] == 0.9
    assert runs[1].training is runs[1].config


def test_parameters_and_the_time_of_a_step_where_they_are_known(write_run, tmp_path):
    counted = write_run("a", SCORES, variants=("roles", "open"), trainable_parameters={"roles": 7, "open": 9})
    (counted / "metrics.jsonl").write_text('{"step": 10, "seconds": 8.0}\n')
    evaluated = write_run("b", SCORES, changes={"job": "evaluate", "run": str(counted / "adapter.safetensors")})
    older = write_run("c", SCORES)
    zero_shot = write_run("d", SCORES, variants=())
    runs, problems = find_runs([counted, evaluated, older, zero_shot])
    assert not problems
    assert [run.parameters for run in runs] == [{"roles": 7, "open": 9}, {}, {}, {}]
    assert [run.step_seconds for run in runs] == [0.4, 0.8, None, None]  # of two runs, and of the one evaluated


def test_zero_shot_alone(write_run):
    folder = write_run("a", SCORES, variants=())
    (run,), problems = find_runs([folder])
    assert not problems
    assert run.variants == {}
    assert run.trained_on == ("", 0)


def test_an_evaluation_knows_how_its_adapters_were_trained(write_run, tmp_path):
    trained = write_run("a", SCORES, changes={"dear.mask.pattern": "open"})
    evaluated = write_run("b", SCORES, changes={"job": "evaluate", "run": str(trained)})
    by_file = write_run("c", SCORES, changes={"job": "evaluate", "run": str(trained / "adapter.safetensors")})
    gone = write_run("d", SCORES, changes={"job": "evaluate", "run": str(tmp_path / "gone")})
    runs, problems = find_runs([evaluated, by_file, gone])
    assert not problems
    assert [run.training.get("dear.mask.pattern") for run in runs] == ["open", "open", None]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "results.json").unlink(), "not finished"),
        (lambda folder: (folder / "config.json").unlink(), "results.json without a config.json"),
        (lambda folder: (folder / "results.json").write_text('{"protocol": "ba'), "half-written or damaged"),
        (lambda folder: (folder / "results.json").write_text("[1]"), "expected a JSON object"),
        (lambda folder: (folder / "results.json").write_bytes(b"\xff\xfe"), "half-written or damaged"),
        (lambda folder: (folder / "config.json").write_text('{"job": "find_roles"}'), "a run of job 'find_roles'"),
        (lambda folder: (folder / "results.json").write_text('{"score": 1}'), "'protocol' is missing"),
        (lambda folder: change(folder, protocol="retrieval"), "protocol 'retrieval' is none of base2new"),
        (lambda folder: change(folder, zero_shot={"base": 1.0}), "zero_shot has no new, hm"),
        (lambda folder: change(folder, variants={"a": {"seeds": {"1": {"base": 1.0}}}}), "'new' is missing"),
        (lambda folder: change(folder, zero_shot={"base": None, "new": 1, "hm": 1}), "zero_shot: base is None"),
        (lambda folder: change(folder, zero_shot={"base": 101, "new": 1, "hm": 1}), "expected 0 to 100 percent"),
        (lambda folder: change(folder, variants=[1]), "not the results of a run"),
        (lambda folder: change(folder, data={"remark": ""}), "'comparable' is missing"),
        (lambda folder: change(folder, trainable_parameters={"other": 1}), "'default' is missing"),
        (lambda folder: change(folder, trainable_parameters=[1]), "not the results of a run"),
    ],
)
def test_bad_workdirs_are_named_and_the_rest_goes_on(write_run, tmp_path, spoil, message):
    bad, good = write_run("bad", SCORES), write_run("good", SCORES)
    spoil(bad)
    runs, problems = find_runs([tmp_path])
    assert [run.folder for run in runs] == [good]
    (problem,) = problems
    assert str(bad) in problem
    assert message in problem


def test_no_folder_and_no_run(tmp_path):
    (tmp_path / "empty").mkdir()
    runs, problems = find_runs([tmp_path / "none", tmp_path / "empty"])
    assert not runs
    assert "no such folder" in problems[0]
    assert "no run in it" in problems[1]
