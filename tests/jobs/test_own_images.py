"""Jobs on folders of images: splits kept in the workdir, bad images refused or left out, the data in results.json."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dear_jax import main
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache", "in_the_repository")
COLORS = {"blue circle": (0, 0, 255), "green_circle": (0, 255, 0), "red": (255, 0, 0), "yellow": (255, 255, 0)}
ZERO_SHOT = ["--config.job=evaluate"]
SMALL = ["--config.seeds=1", "--config.data.shots=4", "--config.train.epochs=2", "--config.train.batch_size=2"]


@pytest.fixture
def photos(tmp_path) -> Path:
    """Four classes of 12 images of one color: 6 for training, 2 for validation, 4 for testing."""
    generator = np.random.default_rng(0)
    for name, color in COLORS.items():
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(12):
            noise = generator.integers(-40, 40, (50, 60, 3))
            image = np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(image).save(folder / f"{number:02d}.png")
    return tmp_path / "photos"


@pytest.fixture
def flags(small_clip) -> Callable[..., list[str]]:
    """The command line for a folder of images; the heads of its CLIP have no role map."""
    config = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"
    clip = [f"--config.backbone={small_clip}", "--config.dear.mask.pattern=isolated"]
    return lambda photos, *more: [config, "--config.data.source=folder", f"--config.data.root={photos}", *clip, *more]


def split_paths(workdir: Path, split: str) -> list[str]:
    return [path for path, _, _ in json.loads((workdir / "splits.json").read_text())[split]]


def damage(photos: Path, paths: list[str]) -> None:
    for path in paths:
        (photos / path).write_bytes((photos / path).read_bytes()[:200])


def test_training_on_ones_own_images(flags, photos, tmp_path, capsys):
    """A second start goes on with the same splits, although images came since."""
    workdir = tmp_path / "run"
    arguments = flags(photos, *SMALL, f"--workdir={workdir}")
    assert main.main(arguments) == 0
    said = capsys.readouterr().out
    assert "DeAR on photos (2 base classes, 2 new classes)" in said
    assert "trains on half of the classes" in said
    assert "--config=configs/few_shot.py:folder" in said
    results = json.loads((workdir / "results.json").read_text())
    assert results["dataset"] == "photos"
    data = results["data"]
    assert data["class_names"] == sorted(COLORS)
    assert data["images"] == {"train": 24, "val": 8, "test": 16}
    assert data["splits"] == "splits.json in the workdir, drawn by config.data.split_seed"
    assert data["comparable"] is False
    assert (workdir / "results.md").read_text().endswith("These images and splits are the user's own.\n")

    check_prediction(photos, workdir, tmp_path / "predicted", capsys)

    drawn = (workdir / "splits.json").read_text()
    (workdir / "results.json").unlink()
    Image.new("RGB", (9, 9)).save(photos / "red" / "00a.png")
    assert main.main(arguments) == 0
    assert (workdir / "splits.json").read_text() == drawn
    assert json.loads((workdir / "results.json").read_text()) == results


def check_prediction(photos: Path, run: Path, workdir: Path, capsys) -> None:
    """On the very folder of a run of half of its classes: truth, accuracy, and what a reader must know."""
    flags = [f"--config={REPOSITORY / 'configs' / 'predict.py'}", f"--config.run={run}", f"--config.images={photos}"]
    assert main.main([*flags, f"--workdir={workdir}"]) == 0
    said = capsys.readouterr().out
    assert "trained on 2 of the 4 classes of photos, and these alone are told apart here. config.classes names" in said
    assert "Not trained on: red, yellow." in said
    assert "8 images were trained on (files of the same content)" in said
    with (workdir / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["truth"] for row in rows] == ["blue circle"] * 12 + ["green_circle"] * 12 + [""] * 24
    right = sum(row["truth"] == row["prediction"] for row in rows)
    assert (
        f"Accuracy on 24 of 48 images in folders called after classes: all paths {100 * right / 24:.1f} %, zero-shot"
    ) in said
    assert "Accuracy on the 16 images of these not trained on: all paths" in said


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_bad_image_is_refused_in_one_paragraph(flags, photos, tmp_path, workers):
    """Also when a thread or a process of the input pipeline finds it."""
    damage(photos, [f"red/{number:02d}.png" for number in range(12)])
    command = [sys.executable, "-m", "dear_jax.main", *flags(photos, *ZERO_SHOT)]
    run = subprocess.run(
        [*command, f"--workdir={tmp_path / 'run'}", f"--config.data.workers={workers}"],
        cwd=REPOSITORY,
        env={name: value for name, value in os.environ.items() if name != "XLA_FLAGS"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    # What is under way is said after five seconds.
    lines = [line for line in run.stderr.strip().splitlines() if not line.startswith("Evaluating")]
    assert len(lines) == 1 or workers, run.stderr  # Python may warn of the shared memory of a worker that failed
    assert lines[0].startswith(f"error: The image {photos}/red/")
    assert "cannot be read whole" in lines[0]
    assert "--config.data.skip_bad=true" in lines[0]


def test_bad_images_are_left_out_and_listed(flags, photos, tmp_path, capsys):
    main.main(flags(photos, *ZERO_SHOT, f"--workdir={tmp_path / 'first'}"))
    test = split_paths(tmp_path / "first", "test")
    train = split_paths(tmp_path / "first", "train")
    damage(photos, [test[0], test[9]])
    damage(photos, train[:3])  # of the first class, of which four are drawn: one at least is drawn
    capsys.readouterr()
    workdir = tmp_path / "run"
    assert main.main(flags(photos, *SMALL, "--config.data.skip_bad=true", f"--workdir={workdir}")) == 0
    output = capsys.readouterr().out
    results = json.loads((workdir / "results.json").read_text())
    skipped = results["data"]["skipped"]
    assert skipped["test"] == 2
    assert 1 <= skipped["train"] <= 3
    assert f"Left out {skipped['train']} training and 2 test images" in output
    assert len(skipped["images"]) == skipped["train"] + 2
    for path in (test[0], test[9]):
        assert any(str(photos / path) in reason for reason in skipped["images"])
    assert "7 images of the base classes" in output  # the first class has only three good ones
    base = results["zero_shot"]["base"] / 100 * 7  # of eight, one was left out
    assert base == pytest.approx(round(base))


def test_what_is_wrong_with_the_images_is_told_at_once(flags, photos, tmp_path, capsys):
    (photos / "orange").mkdir()
    assert main.main(flags(photos, *SMALL, f"--workdir={tmp_path / 'a'}")) == 2
    assert "1 class folder holds no image: orange" in capsys.readouterr().err
    (photos / "orange").rmdir()
    (photos / "classnames.txt").write_text("red\tYellow\n")
    assert main.main(flags(photos, *SMALL, f"--workdir={tmp_path / 'b'}")) == 2
    assert "Classes 2 ('Yellow') and 3 ('yellow') give the same prompt" in capsys.readouterr().err


def test_a_data_set_for_testing_only_is_refused(flags, photos, tmp_path, capsys):
    (photos.parent / "tests").mkdir()
    photos.rename(photos.parent / "tests" / "test")
    assert main.main(flags(photos.parent / "tests", *SMALL, f"--workdir={tmp_path / 'run'}")) == 2
    assert "tests has test images only: training needs a data set with training images" in capsys.readouterr().err


def test_a_folder_that_is_not_there(flags, photos, tmp_path, capsys):
    assert main.main(flags(photos, "--config.data.root=nowhere", f"--workdir={tmp_path / 'run'}")) == 2
    message = "expected a folder with one folder of images per class, found 'nowhere'"
    assert message in capsys.readouterr().err
