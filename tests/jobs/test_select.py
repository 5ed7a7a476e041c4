"""Settings chosen without a test image: the job, a run that takes what it chose, validation images."""

import dataclasses
import json

import numpy as np
import pytest

from dear_jax import main
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.world import tasks
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache", "few_test_scenes", "in_the_repository")
SHORT = ["--config.seeds=1,2", "--config.data.shots=2", "--config.train.share=0.1", "--config.train.batch_size=8"]
FEW = ["--config.select.folds=2", "--config.select.images=3"]
TWO = "--config.variants=sure: fusion.class_start=0.95 | slow: optimizer.learning_rate=1e-5"


@pytest.fixture
def clip(small_clip) -> list[str]:
    return [f"--config.backbone={small_clip}", "--config.dear.mask.pattern=open"]


@pytest.fixture
def no_test_images(monkeypatch):
    """Data sets whose test images raise."""

    def never(index: int) -> np.ndarray:
        raise AssertionError("a test image was loaded")

    load = tasks.load

    def without(name):
        dataset = load(name)
        return dataclasses.replace(dataset, test=ImageSplit(dataset.test.labels, never))

    monkeypatch.setattr(tasks, "load", without)


def start(*flags: str) -> int:
    return main.main([*flags[1:], f"--config={REPOSITORY / 'configs' / flags[0]}"])


def test_base_to_new_is_chosen_by_classes_left_out(clip, no_test_images, tmp_path, capsys):
    flags = ("base2new.py", "--config.job=select", *SHORT, *FEW, *clip, TWO, f"--workdir={tmp_path / 'chosen'}")
    assert start(*flags) == 0
    found = json.loads((tmp_path / "chosen" / "selection.json").read_text())
    assert found["columns"] == ["base", "new", "hm"]
    by_name = {one["name"]: one for one in found["candidates"]}
    rules, variants = ("learned", "class_only", "equal"), ("default", "sure", "slow")
    assert set(by_name) == {f"{variant}, {rule}" for variant in variants for rule in rules}
    for one in by_name.values():
        assert [len(rows) for rows in one["folds"]] == [2, 2]  # seeds of each of two folds
        rows = [row for of_fold in one["folds"] for row in of_fold]
        assert one["mean"]["hm"] == pytest.approx(np.mean([row["hm"] for row in rows]))
        assert one["mean"]["base"] == pytest.approx(np.mean([row["base"] for row in rows]))
    base = {one["name"]: one["mean"]["base"] for one in by_name.values()}
    assert base["sure, learned"] == base["sure, equal"]  # rules are for classes not trained on
    chosen = by_name[found["chosen"]["name"]]
    assert chosen["tied"]
    best = max(one["mean"]["hm"] for one in by_name.values())
    assert by_name[found["best"]]["mean"]["hm"] == best
    assert not list((tmp_path / "chosen").rglob("checkpoints"))  # nothing of the candidates is kept but their rows
    table = (tmp_path / "chosen" / "selection.md").read_text()
    assert "10 of the training classes (Base), measured on them and on 10 others (New)" in table
    assert f"{found['chosen']['name']} |" in table

    capsys.readouterr()
    assert start(*flags) == 0  # again: nothing is trained
    assert "finished before" in capsys.readouterr().out


@pytest.mark.slow
def test_a_second_start_goes_on_and_gives_the_same(clip, tmp_path, monkeypatch):
    flags = ("base2new.py", "--config.job=select", *SHORT, *FEW, *clip, TWO)
    assert start(*flags, f"--workdir={tmp_path / 'whole'}") == 0
    from dear_jax.jobs import select

    measure, calls = select.measure, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(select, "measure", stop)
    assert start(*flags, f"--workdir={tmp_path / 'cut'}") == 130  # interrupted
    monkeypatch.setattr(select, "measure", measure)
    assert start(*flags, f"--workdir={tmp_path / 'cut'}") == 0
    whole, cut = (json.loads((tmp_path / name / "selection.json").read_text()) for name in ("whole", "cut"))
    assert whole["candidates"] == cut["candidates"]


def test_a_few_shot_run_takes_what_held_out_images_chose(clip, no_test_images, tmp_path, monkeypatch, capsys):
    flags = ("few_shot.py:world_objects", *SHORT, *clip)
    place = tmp_path / "chosen"
    select = ("--config.job=select", "--config.select.images=3", TWO, f"--workdir={place}")
    assert start(*flags, *select) == 0
    found = json.loads((place / "selection.json").read_text())
    assert found["columns"] == ["accuracy"]
    assert [one["name"] for one in found["candidates"]] == ["default", "sure", "slow"]
    assert "30 held-out images" in found["measured_on"]

    monkeypatch.undo()
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setattr(tasks, "TEST_SCENES", 200)
    assert start(*flags, f"--config.selection={place}", f"--workdir={tmp_path / 'run'}") == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["selection"]["settings"] == found["chosen"]["settings"]
    assert "Settings chosen without test images, on world_objects" in capsys.readouterr().out


def test_the_dry_run_lists_candidates_and_folds(clip, no_test_images, capsys):
    assert start("base2new.py", "--config.job=select", "--config.variants=fusion", *clip, "--dry_run") == 0
    printed = capsys.readouterr().out
    assert "start_0.5_lambda_0.1, class_only" in printed
    assert "dear.fusion.class_start = 0.5" in printed
    assert "4 folds, each trained on 10" in printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.select.folds=3"], "config.select.folds is 3, expected an even number"),
        (["--config.select.rules=best"], "'best': expected learned, class_only, equal"),
        (["--config.variants=fusions"], "Did you mean fusion?"),
        (["--config.method=linear_probe"], "others, all of them and in their order"),
        (["--config.compute.processes=2"], "runs in one process"),
    ],
)
def test_what_is_refused(flags, message, clip, tmp_path, capsys):
    assert start("base2new.py", "--config.job=select", *flags, f"--workdir={tmp_path / 'x'}") == 2
    assert message in capsys.readouterr().err


def test_validation_images_are_measured_where_they_are_asked_for(clip, no_test_images, tmp_path, capsys):
    flags = ("base2new.py", "--config.job=evaluate", "--config.eval.split=val", *clip)
    assert start(*flags, f"--workdir={tmp_path}") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["data"]["measured_on"] == "val"
    assert not results["data"]["comparable"]
    assert "Measured on validation images (config.eval.split=val)" in capsys.readouterr().out
    dataset = tasks.load("world_compositions")
    step = 100 / np.sum(dataset.val.labels < 20)  # of an accuracy on the base half
    assert results["zero_shot"]["base"] / step == pytest.approx(round(results["zero_shot"]["base"] / step))


def test_there_may_be_no_validation_images(clip, monkeypatch, tmp_path, capsys):
    load = tasks.load
    monkeypatch.setattr(tasks, "load", lambda name: dataclasses.replace(load(name), val=load(name).val.subset([])))
    flags = ("base2new.py", "--config.job=evaluate", "--config.eval.split=val", *clip)
    assert start(*flags, f"--workdir={tmp_path}") == 2
    assert "the validation images of world_compositions, and it has none" in capsys.readouterr().err
