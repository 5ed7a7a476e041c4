"""Jobs on images of one's own: classify them, retrieve among them; bad input is named, good input is done."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dear_jax import Classifier, main
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache", "in_the_repository")
OPINIONS = ["zero-shot CLIP", "class", "color", "shape", "texture"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_scenes) -> Path:
    """Eight images, and one that is none."""
    return write_scenes(tmp_path_factory.mktemp("photos"), 8, "3b.png")


def start(job: str, run: Path, *more: str) -> int:
    config = f"--config={REPOSITORY / 'configs' / f'{job}.py'}"
    return main.main([config, f"--config.run={run}", "--config.eval.batch_size=4", *more])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_predict(embedded_run, photos, tmp_path, capsys):
    flags = [f"--config.images={photos}/*.png", "--config.classes=red heart,blue star", f"--workdir={tmp_path / 'out'}"]
    assert start("predict", embedded_run, *flags, "--config.predict.shown=2") == 2
    printed = capsys.readouterr()
    assert "1 of 9 images could not be read; the others are done." in printed.err
    assert f"{photos / '3b.png'} (8 bytes) is no image" in printed.err
    assert printed.out.count("zero-shot CLIP:") == 2
    assert "... and 6 more images in predictions.csv." in printed.out

    top, table = rows(tmp_path / "out" / "predictions.csv"), rows(tmp_path / "out" / "probabilities.csv")
    pairs = [column for name in OPINIONS for column in (name, f"{name} probability")]
    assert list(top[0]) == ["image", "prediction", "probability", *pairs, "problem"]
    assert [row["image"] for row in top] == [row["image"] for row in table]
    assert [Path(row["image"]).name for row in top if row["problem"]] == ["3b.png"]
    good = [index for index, row in enumerate(top) if not row["problem"]]
    expected = Classifier.load(embedded_run, ["red heart", "blue star"])([top[index]["image"] for index in good])
    found = [[float(table[index][name]) for name in expected.class_names] for index in good]
    np.testing.assert_allclose(found, expected.probabilities, rtol=1e-3, atol=1e-6)
    assert [top[index]["prediction"] for index in good] == expected.labels
    color = [float(top[index]["color probability"]) for index in good]
    np.testing.assert_allclose(color, expected.paths["color"].max(axis=1), rtol=1e-3)


def test_retrieve_among_images_of_ones_own(embedded_run, photos, tmp_path, capsys):
    flags = [f"--config.images={photos}", f"--workdir={tmp_path / 'out'}", "--config.retrieve.top=3"]
    assert start("retrieve", embedded_run, *flags) == 2  # one image could not be read
    assert "1 of 9 images could not be read; the others are done." in capsys.readouterr().err
    found = rows(tmp_path / "out" / "rankings.csv")
    queries = {row["query"] for row in found}
    assert len(found) == len(queries) * len(OPINIONS) * 3
    assert not queries & {row["image"] for row in found}
    results = json.loads((tmp_path / "out" / "retrieval.json").read_text())
    assert results["queries"] + results["gallery"] == 8
    assert "Nothing is known of the images" in (tmp_path / "out" / "retrieval.md").read_text()
    with Image.open(tmp_path / "out" / "contact_sheet.png") as image:
        assert image.width > 300
    assert "3.png" in (tmp_path / "out" / "contact_sheet.html").read_text()

    flags = [f"--config.images={photos}/?.png", f"--config.retrieve.query_images={photos}/5.png"]
    assert start("retrieve", embedded_run, *flags, f"--workdir={tmp_path / 'own'}") == 0
    found = rows(tmp_path / "own" / "rankings.csv")
    assert {row["query"] for row in found} == {str(photos / "5.png")}
    assert [row["image"] for row in found if row["rank"] == "1"] == [str(photos / "5.png")] * len(OPINIONS)


def test_retrieve_measures_by_the_folders_of_classes(embedded_run, photos, tmp_path):
    for index, name in enumerate(("red_heart", "blue star") * 3):
        (tmp_path / "tree" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name / f"{index}.png").write_bytes((photos / f"{index}.png").read_bytes())
    flags = [f"--config.images={tmp_path / 'tree'}", "--config.retrieve.queries=2", "--config.retrieve.top=4"]
    assert start("retrieve", embedded_run, *flags, f"--workdir={tmp_path / 'out'}") == 0
    results = json.loads((tmp_path / "out" / "retrieval.json").read_text())
    assert list(results["features"]["class"]) == ["class"]
    page = (tmp_path / "out" / "contact_sheet.html").read_text()
    assert "precision@4 of class: " in page
    assert "DeAR trained on world_compositions (1 shot), variant open, seed 3, the first of 2; backbone embed" in page


@pytest.mark.parametrize("job", ["predict", pytest.param("retrieve", marks=pytest.mark.slow)])
def test_names_that_are_no_utf8(embedded_run, photos, tmp_path, job):
    for index in range(4):
        (tmp_path / os.fsdecode(b"caf\xe9%d.png" % index)).write_bytes((photos / f"{index}.png").read_bytes())
    flags = [f"--config.images={tmp_path}", f"--workdir={tmp_path / 'out'}"]
    more = ["--config.classes=red heart,blue star"] if job == "predict" else ["--config.retrieve.queries=2"]
    assert start(job, embedded_run, *flags, *more) == 0
    written = [path.read_text() for path in (tmp_path / "out").glob("*.csv")]
    assert any("caf\\udce90.png" in text for text in written)


@pytest.mark.slow
def test_retrieve_measures_what_a_data_set_knows(embedded_run, tmp_path):
    assert start("retrieve", embedded_run, f"--workdir={tmp_path}", "--config.retrieve.queries=50") == 0
    results = json.loads((tmp_path / "retrieval.json").read_text())
    assert (results["queries"], results["gallery"]) == (50, 2016 - 50)
    kinds = ["color", "shape", "texture", "object", "position", "background", "class"]
    assert list(results["chance"]) == kinds
    assert list(results["features"]) == OPINIONS
    for scores in results["features"].values():
        assert list(scores) == kinds
    assert (
        results["features"]["zero-shot CLIP"]["shape"]["precision"]["mean"]
        > 3 * results["chance"]["shape"]["precision"]["mean"]
    )
    assert len(results["features"]["color"]["color"]["precision"]["seeds"]) == 2


@pytest.mark.parametrize(
    ("job", "flags", "message"),
    [
        ("predict", ["--config.classes=cat"], "config.images is empty"),
        ("predict", ["--config.images=absent/*.jpg"], "No image is found by 'absent/*.jpg'"),
        ("predict", ["--config.images=PHOTOS", "--config.classes=cat,Cat"], "give the same prompt"),
        ("predict", ["--config.images=PHOTOS", "--config.classes=cat,,dog"], "Class 1 has an empty name"),
        ("predict", ["--config.images=PHOTOS", "--config.classes=absent.txt"], "absent.txt cannot be read"),
        ("predict", ["--config.images=PHOTOS", "--config.run="], "config.run is empty"),
        ("predict", ["--config.images=PHOTOS", "--config.run=PHOTOS"], "holds no adapter.safetensors"),
        ("predict", ["--config.images=PHOTOS", "--config.run_seed=9"], "no seed 9"),
        ("predict", ["--config.images=PHOTOS", "--config.data.template=cat"], "a prompt with {} once"),
        ("retrieve", ["--config.images=PHOTOS/0.png"], "at least 2 images"),
        (
            "retrieve",
            ["--config.images=PHOTOS/3b.png", "--config.retrieve.query_images=PHOTOS/3b.png"],
            "2 of 2 images",
        ),
        ("retrieve", ["--config.retrieve.query_images=PHOTOS"], "needs a gallery"),
        ("retrieve", ["--config.run_variant=opne"], "no variant 'opne'"),
    ],
)
def test_bad_input(embedded_run, photos, tmp_path, capsys, job, flags, message):
    flags = [flag.replace("PHOTOS", str(photos)) for flag in flags]
    assert start(job, embedded_run, f"--workdir={tmp_path / 'out'}", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_dry_runs(embedded_run, photos, capsys):
    assert start("predict", embedded_run, "--dry_run", f"--config.images={photos}", "--config.classes=a,b") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"images 9, from {photos}/0.png to {photos}/7.png" in printed
    assert "prompts 'a photo of a a.'; 'a photo of a b.'" in printed
    assert start("retrieve", embedded_run, "--dry_run") == 0
    assert "images 200 queries, 1,816 gallery images of world_scenes" in " ".join(capsys.readouterr().out.split())
    assert start("predict", embedded_run, "--dry_run", "--config.classes=a,a", "--config.run_seed=3") == 2
    message = capsys.readouterr().err
    assert "config.images is empty" in message
    assert "give the same prompt" in message
