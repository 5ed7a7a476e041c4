"""How long a run is: whole epochs, or a number of steps; and that it goes on within either as if it had not stopped."""

import shutil
import types

import numpy as np
import pytest

from configs import few_shot
from dear_jax import jobs
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.world import tasks
from dear_jax.methods import adapter_file
from dear_jax.methods.contract import Length
from dear_jax.setup import values
from dear_jax.setup.plans import train
from dear_jax.training import loop

SMALL = {
    "method": "dear",
    "dear.mask.pattern": "open",
    "seeds": (1, 2),
    "data.shots": 1,
    "data.cache_gb": 0.1,
    "train.batch_size": 4,
    "train.keep_checkpoints": 9,
    "optimizer.warmup_epochs": 0,
    "eval.batch_size": 50,
}


def config_of(**changes):
    config = few_shot.get_config("world_objects")
    return values.set_all(config, SMALL | {key.replace("__", "."): value for key, value in changes.items()})


def make_runs(images: int, batch_size: int, **changes):
    """The runs on a task of so many images."""
    schedule = train.make_plan(config_of(train__batch_size=batch_size, **changes)).schedule
    split = ImageSplit(np.zeros(images, int), lambda index: np.zeros((8, 8, 3), np.uint8))
    classes = types.SimpleNamespace(class_names=("a", "b"))
    task = types.SimpleNamespace(train=(split, split), trained_on=classes, batch_size=min(batch_size, images))
    backbone = types.SimpleNamespace(config=types.SimpleNamespace(image_size=8))
    return loop.make_runs(schedule, backbone, task, [types.SimpleNamespace(names=("default",))])


@pytest.mark.parametrize(
    ("images", "batch_size", "epochs", "steps", "expected"),
    [
        (80, 32, 5, 0, Length(5, 2)),  # 16 images of each epoch are left over
        (64, 32, 5, 0, Length(5, 2)),
        (10, 32, 5, 0, Length(5, 1)),  # all images make one batch
        (80, 32, 5, 7, Length(4, 2, 7)),  # the last epoch is cut short, whatever the number of epochs
        (80, 32, 5, 8, Length(4, 2, 8)),
        (80, 32, 1, 1, Length(1, 2, 1)),
    ],
)
def test_a_run_is_as_long_as_its_epochs_or_its_steps(images, batch_size, epochs, steps, expected):
    runs, batches = make_runs(images, batch_size, train__epochs=epochs, train__steps=steps)
    batches.close()
    assert runs.length == expected
    assert len(batches) == runs.length.steps == (steps or epochs * expected.steps_per_epoch)
    assert runs.batch_size == min(batch_size, images)


@pytest.mark.parametrize(
    ("asked", "steps", "epoch_steps", "expected"),
    [(0, 800, 80, 80), (0, 8000, 10, 400), (0, 8001, 10, 401), (0, 5, 1, 1), (7, 8000, 10, 7)],
)
def test_short_epochs_are_not_all_saved(asked, steps, epoch_steps, expected):
    assert loop.steps_between_saves(asked, steps, epoch_steps) == expected


def start_job(config, workdir):
    job = jobs.find(config.job).load()
    job.run(job.make_plan(config), workdir)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "saved", "rule"),
    [
        (5, (2, 4, 5), {"optimizer.name": "sgd", "optimizer.schedule": "step_cosine"}),
        (0, (2, 4), {"optimizer.name": "adam", "optimizer.schedule": "epoch_cosine"}),
    ],
    ids=["steps", "epochs"],
)
def test_it_goes_on_as_if_it_had_not_stopped(
    compilation_cache, monkeypatch, tmp_path, capsys, steps, saved, rule
):
    """The rate, the momentum and the images of each step are those of the run that was not stopped."""
    monkeypatch.setattr(tasks, "TEST_SCENES", 20)  # what is measured does not matter
    config = values.set_all(config_of(train__epochs=2, train__steps=steps), rule)
    whole, again = tmp_path / "whole", tmp_path / "again"
    start_job(config, whole)
    shutil.copytree(whole, again)
    assert {int(entry.name) for entry in (again / "checkpoints").iterdir() if entry.name.isdigit()} == {*saved}
    for later in saved[1:]:
        shutil.rmtree(again / "checkpoints" / str(later))
    for file in ("results.json", "results.md", adapter_file.NAME):
        (again / file).unlink()
    start_job(config, again)
    assert f"Going on from the checkpoint of step {saved[0]} of {saved[-1]}" in capsys.readouterr().out
    assert (again / adapter_file.NAME).read_bytes() == (whole / adapter_file.NAME).read_bytes()
