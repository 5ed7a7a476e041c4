"""Maps of images of one's own: of plain CLIP, of a run, of its predictions; what they sum up to; bad input is named."""

import csv
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dear_jax import Classifier, main
from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.clip.layers import unit
from dear_jax.clip.split import logit_scale
from dear_jax.data.world import tasks
from dear_jax.roles import sentences
from tests.report.page import check_self_contained
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache", "in_the_repository")
PATHS = ["all paths", "zero-shot CLIP", "class", "color", "shape", "texture"]
PARTS = ["patches", "class token", "learned tokens", "MLPs", "attention biases", "what entered"]
PARTS.append("last LayerNorm's bias")


@pytest.fixture(scope="module")
def photos(tmp_path_factory, write_scenes) -> Path:
    """Four images, and one that is none."""
    return write_scenes(tmp_path_factory.mktemp("photos"), 4, "1b.png")


def start(job: str, *flags: str) -> int:
    return main.main([f"--config={REPOSITORY / 'configs' / f'{job}.py'}", "--config.eval.batch_size=4", *flags])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "explanations.csv").open() as file:
        return list(csv.DictReader(file))


def check_closed(found: list[dict[str, str]]) -> None:
    for row in found:
        assert sum(float(row[part]) for part in PARTS) == pytest.approx(float(row["logit"]), abs=2e-3)


def test_plain_clip(photos, tmp_path, capsys):
    texts = ["a photo of a red thing.", "sand"]
    flags = [f"--config.images={photos}", f"--config.text={'|'.join(texts)}", f"--workdir={tmp_path}"]
    assert start("explain", *flags, "--config.explain.size=64") == 2
    assert "1 of 5 images could not be read; the others are done." in capsys.readouterr().err
    found = rows(tmp_path)
    assert [row["problem"] != "" for row in found] == [False] * 8 + [True]
    check_closed(found[:-1])
    backbone = load_backbone("embedded")
    names = list(dict.fromkeys(row["image"] for row in found[:-1]))
    pixels = np.stack([np.asarray(Image.open(name)) for name in names])
    normal = vision.normalize(jnp.asarray(pixels), backbone.config)
    features = unit(vision.encode(backbone.params, backbone.config, normal))
    expected = float(logit_scale(backbone.params)) * features @ sentences.encode_texts(backbone, texts).T
    np.testing.assert_allclose([float(row["logit"]) for row in found[:-1]], np.ravel(expected), atol=1e-3)
    with np.load(tmp_path / "explanations.npz") as arrays:
        assert arrays["maps"].shape == (8, 6, 6)
        assert arrays["heads"].shape == (8, 7, 8)
        np.testing.assert_allclose(arrays["maps"].sum((1, 2)), [float(row["patches"]) for row in found[:-1]], rtol=1e-4)
        inside = [float(row["patches"]) + float(row["class token"]) for row in found[:-1]]
        np.testing.assert_allclose(arrays["heads"].sum((1, 2)), inside, atol=1e-3)
    for row in found[:-1]:
        with Image.open(tmp_path / row["map"]) as picture:
            assert picture.size == (64, 64)
    check_self_contained((tmp_path / "explanations.html").read_text())


def test_a_run(embedded_run, photos, tmp_path):
    """A text is its own prompt, and every path's logit is that which a prediction would be made of."""
    text = "a photo of a red heart."  # what the run's template makes of a class
    flags = [f"--config.images={photos}/?.png", f"--config.text={text}", f"--config.run={embedded_run}"]
    assert start("explain", *flags, "--config.explain.images=3", f"--workdir={tmp_path}") == 0
    found = rows(tmp_path)
    assert [row["path"] for row in found] == PATHS * 3
    check_closed(found)
    assert all(float(row["learned tokens"]) == 0 for row in found if row["path"] == "zero-shot CLIP")
    assert "1 more images were not explained" in (tmp_path / "explanations.html").read_text()
    classifier = Classifier.load(embedded_run, ["red heart", "blue star"])
    of_run = classifier([photos / f"{index}.png" for index in range(3)], explain=True)
    for image, (label, explained) in enumerate(zip(of_run.labels, of_run.explanations, strict=True)):
        assert [one.path for one in explained] == PATHS
        if label == "red heart":
            ours = [float(row["logit"]) for row in found[len(PATHS) * image : len(PATHS) * (image + 1)]]
            np.testing.assert_allclose(ours, [one.logit for one in explained], atol=2e-3)


def test_the_predicted_class(embedded_run, photos, tmp_path, capsys):
    flags = [f"--config.images={photos}", "--config.classes=red heart,blue star", f"--config.run={embedded_run}"]
    maps = ["--config.predict.explain=true", "--config.explain.images=4", "--config.run_seed=3"]
    assert start("predict", *flags, *maps, f"--workdir={tmp_path}") == 2
    assert "Maps of 3 images in maps/" in capsys.readouterr().out
    found = rows(tmp_path)
    check_closed(found)
    with (tmp_path / "predictions.csv").open() as file:
        predicted = {row["image"]: row for row in csv.DictReader(file)}
    for row in found:
        assert row["text"] == predicted[row["image"]]["prediction"]
    numbers = {row["number"] for row in found}  # those of the rows of predictions.csv
    assert numbers == {"1", "2", "4"}
    # Of one seed, the differences of the logits of two classes are those of the probabilities.
    classifier = Classifier.load(embedded_run, ["red heart", "blue star"], seed=3)
    name = found[0]["image"]
    for path in ("class", "color"):
        logits = {}
        for classes in (["red heart", "blue star"], ["blue star", "red heart"]):
            classifier.classes = classes
            prediction = classifier(name, explain=True)
            logits[classes[0]] = next(one.logit for one in prediction.explanations[0] if one.path == path)
        assert len(set(logits.values())) == 1  # in whichever order the classes stand
    classifier.classes = ["red heart"]
    red = classifier(name, explain=True).explanations[0]
    classifier.classes = ["blue star"]
    blue = classifier(name, explain=True).explanations[0]
    classifier.classes = ["red heart", "blue star"]
    probabilities = classifier(name).paths
    for one, other in zip(red, blue, strict=True):
        if one.path in probabilities:
            said = probabilities[one.path][0]
            np.testing.assert_allclose(np.log(said[0] / said[1]), one.logit - other.logit, atol=2e-3)


def test_from_python(embedded_run, photos):
    classifier = Classifier.load(embedded_run)
    images = [photos / f"{index}.png" for index in range(3)]
    prediction = classifier(images, explain=True)
    assert len(prediction.explanations) == 3
    assert prediction.select([2]).explanations == (prediction.explanations[2],)
    assert classifier(images).explanations == ()
    for label, explained in zip(prediction.labels, prediction.explanations, strict=True):
        for one in explained:
            assert one.text == label
            assert sum(one.shares.values()) == pytest.approx(one.logit, abs=2e-3)
        assert explained[0].attention is None
        looking = {one.path: one.looking for one in explained[1:]}
        assert looking == {"zero-shot CLIP": 56, "class": 24, "color": 24, "shape": 24, "texture": 24}  # an open mask


def test_heads_that_a_mask_closes_are_not_looked_through(embedded_run, photos):
    """The second variant's mask is random: a token's attention is that of the heads that it leaves open."""
    classifier = Classifier.load(embedded_run, variant="random")
    (explained,) = classifier(photos / "0.png", explain=True).explanations
    mask = classifier.trained.parts[0].settings["head_mask"][0]  # [n, H, T, T]
    tokens = dict(zip(("color", "shape", "texture"), range(37, 40), strict=True))
    for one in explained:
        if one.path in tokens:
            assert one.looking == mask[:, :, tokens[one.path], 1:37].any(-1).sum() < 24
            assert one.attention.sum() <= 1


def test_a_method_without_maps_says_so(photos, tmp_path, capsys):
    flags = ["--config.method=tip_adapter", "--config.data.shots=1", "--config.seeds=1"]
    run = f"--workdir={tmp_path / 'run'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "TEST_SCENES", 50)
        assert start("few_shot", *flags, run) == 0
    flags = [f"--config.images={photos}", f"--config.run={tmp_path / 'run'}", f"--workdir={tmp_path / 'out'}"]
    assert start("predict", *flags, "--config.predict.explain=true") == 2
    assert "There are no maps of TipAdapter" in capsys.readouterr().err
    assert start("explain", *flags, "--config.text=a cat") == 2
    assert "TipAdapter of this run knows the classes that it was trained on" in capsys.readouterr().err
    assert start("explain", *flags, "--config.text=a cat", "--dry_run") == 2
    assert "TipAdapter of this run knows the classes that it was trained on" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.images=PHOTOS"], "config.text is empty, or one of its texts is"),
        (["--config.images=PHOTOS", "--config.text=a cat||a dog"], "config.text is empty, or one of its texts is"),
        (["--config.images=PHOTOS", "--config.text=a cat|a cat"], "config.text has 'a cat' more than once"),
        (["--config.images=PHOTOS", f"--config.text={'cat ' * 90}"], "77"),
        (["--config.text=a cat"], "config.images is empty"),
        (["--config.images=absent/*.jpg", "--config.text=a cat"], "No image is found by 'absent/*.jpg'"),
        (["--config.images=PHOTOS", "--config.text=a", "--config.explain.size=3"], "config.explain.size is 3"),
        (["--config.images=PHOTOS", "--config.text=a", "--config.run=PHOTOS"], "holds no adapter.safetensors"),
        (["--config.images=PHOTOS/1b.png", "--config.text=a cat"], "1 of 1 image could not be read."),
    ],
)
def test_bad_input(photos, tmp_path, capsys, flags, message):
    flags = [flag.replace("PHOTOS", str(photos)) for flag in flags]
    assert start("explain", f"--workdir={tmp_path / 'out'}", *flags) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    if "could not be read" not in message:
        assert start("explain", "--dry_run", *flags) == 2
        assert message in capsys.readouterr().err


def test_dry_run(embedded_run, photos, capsys):
    flags = [f"--config.images={photos}", "--config.text=a red wing|sand", "--config.explain.images=3"]
    assert start("explain", "--dry_run", *flags, f"--config.run={embedded_run}") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"images 5, from {photos}/0.png to {photos}/3.png; 3 explained" in printed
    assert "texts 'a red wing'; 'sand'" in printed
