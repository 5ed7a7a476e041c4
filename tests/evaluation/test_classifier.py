"""Classify images from Python: the numbers are those of the method, in any batch, chunk and form of input."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax import Classifier
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.split import Frozen
from dear_jax.data import pipeline
from dear_jax.data.world import tasks
from dear_jax.errors import UserError
from dear_jax.evaluation import classifier as classifiers
from dear_jax.evaluation import features
from dear_jax.methods import adapter_file as adapters
from dear_jax.methods import paths as rules
from dear_jax.methods.paths import Rule
from dear_jax.setup import runs
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache")
CLASSES = ["green circle", "red heart", "blue star", "thing"]  # one that was not trained on
CLOSE = dict(rtol=2e-4, atol=2e-6)  # float32 through seven layers, in batches of another size


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    split = tasks.load("world_compositions").test
    return [split.load(index) for index in range(5)]


@pytest.fixture(scope="module")
def classifier(embedded_run) -> Classifier:
    return Classifier.load(embedded_run, CLASSES, batch_size=4)


def plainly(run: Path, images: list[np.ndarray], rule: Rule = "learned") -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the whole and of the paths: each seed by itself, straight from the method's functions."""
    backbone = weights.load_backbone("embedded")
    (program, *_) = runs.restore(adapters.load(run), backbone, jnp.float32)
    method, params = program.method, backbone.params
    token_ids = backbone.tokenizer([f"a photo of a {name}." for name in CLASSES])
    prompts = method.split.encode_prompts(params, token_ids)
    seen = method.split.look(params, jnp.asarray(images))
    scale = jnp.minimum(jnp.exp(params["logit_scale"]), 100.0)
    wholes, paths = [], []
    for s in range(2):
        adapter = jax.tree.map(lambda leaf, s=s: leaf[s, 0], program.adapter)
        settings = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), program.settings)
        ours = method.features(adapter, settings, params, seen)
        theirs = method.classes(adapter, settings, Frozen(params, prompts))
        logits = scale * jnp.einsum("bid,cd->bic", ours, theirs)
        alpha = rules.rows(jax.nn.softmax(adapter["fusion"]), [rule])[0]
        wholes.append(jax.nn.softmax(jnp.einsum("bic,i->bc", logits, alpha)))
        paths.append(jax.nn.softmax(logits))
    return np.mean(wholes, axis=0), np.mean(paths, axis=0)


def test_probabilities_are_those_of_the_method(classifier, embedded_run, images):
    prediction = classifier(images)
    whole, paths = plainly(embedded_run, images)
    np.testing.assert_allclose(prediction.probabilities, whole, **CLOSE)
    assert list(prediction.paths) == ["class", "color", "shape", "texture"]
    for index, values in enumerate(prediction.paths.values()):
        np.testing.assert_allclose(values, paths[:, index], **CLOSE)
    for values in (prediction.probabilities, prediction.zero_shot, *prediction.paths.values()):
        assert values.shape == (5, 4)
        np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
    assert prediction.labels == [CLASSES[index] for index in whole.argmax(axis=1)]


def test_few_images_cost_few_and_all_numbers_of_them_make_few_programs(embedded_run, images, monkeypatch):
    sizes = []
    eval_batches = pipeline.eval_batches

    def count(split, batch_size, *args, **kwargs):
        sizes.append(batch_size)
        return eval_batches(split, batch_size, *args, **kwargs)

    monkeypatch.setattr(pipeline, "eval_batches", count)
    classifier = Classifier.load(embedded_run, CLASSES, batch_size=16)
    whole = classifier(images).probabilities
    numbers = (5, 1, 2, 3, 4)
    for number in numbers[1:]:
        np.testing.assert_allclose(classifier(images[:number]).probabilities, whole[:number], **CLOSE)
    devices = jax.device_count()
    assert sizes == [-(-pipeline.fitting(number, 16) // devices) * devices for number in numbers]
    assert max(sizes) < 16
    assert classifier._probabilities._cache_size() == len({*sizes})


@pytest.mark.slow
def test_new_classes_are_fused_as_asked(embedded_run, images):
    for rule in ("class_only", 0.25):
        prediction = Classifier.load(embedded_run, CLASSES, new_classes=rule)(images)
        np.testing.assert_allclose(prediction.probabilities, plainly(embedded_run, images, rule)[0], **CLOSE)
    trained_on = Classifier.load(embedded_run, new_classes="class_only")
    assert trained_on.classes == ("red heart", "blue star", "green circle")
    learned = Classifier.load(embedded_run)(images)
    np.testing.assert_array_equal(trained_on(images).probabilities, learned.probabilities)


@pytest.mark.slow
def test_seeds_and_variants(embedded_run, images, classifier):
    seeds = [Classifier.load(embedded_run, CLASSES, seed=seed)(images) for seed in (3, 7)]
    np.testing.assert_allclose(
        np.mean([seed.probabilities for seed in seeds], axis=0), classifier(images).probabilities, **CLOSE
    )
    other = Classifier.load(embedded_run, CLASSES, variant="random")(images)
    assert np.abs(other.probabilities - classifier(images).probabilities).max() > 1e-3
    with pytest.raises(UserError, match=r"no variant 'opne'.*open, random"):
        Classifier.load(embedded_run, variant="opne")
    with pytest.raises(UserError, match=r"no seed 4.*3, 7"):
        Classifier.load(embedded_run, seed=4)


@pytest.mark.slow
def test_other_classes_and_chunks_of_them(embedded_run, images, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 2)
    monkeypatch.setattr(features, "GROUP", 3)
    classifier = Classifier.load(embedded_run, CLASSES)
    np.testing.assert_allclose(classifier(images).probabilities, plainly(embedded_run, images)[0], **CLOSE)
    classifier.classes = CLASSES[:2]
    assert classifier(images).probabilities.shape == (5, 2)
    classifier.classes = [f"{color} {shape}" for color in ("red", "blue", "green") for shape in ("star", "heart")]
    assert classifier(images[0]).probabilities.shape == (1, 6)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "list of classes is empty"),
        ("cat", r"found the text 'cat'; give \['cat'\]"),
        (["red_star", "Red star"], "give the same prompt"),
        (["red star", " "], "Class 1 has an empty name"),
        (["red star", "striped red heart " * 40], "1 prompt has more tokens than.*striped red heart"),
    ],
)
def test_bad_classes_leave_the_old_ones(classifier, images, classes, message):
    before = classifier(images[:1]).probabilities
    with pytest.raises(UserError, match=message):
        classifier.classes = classes
    assert classifier.classes == tuple(CLASSES)
    np.testing.assert_array_equal(classifier(images[:1]).probabilities, before)


def test_classes_of_one_name_are_no_mistake_where_the_run_was_trained_on_them(embedded_run, images):
    """As in ImageNet's list, which training accepts."""
    twins = ("red heart", "red heart", "green circle")
    trained = dataclasses.replace(adapters.load(embedded_run).select(), class_names=twins)
    classifier = Classifier(trained, weights.load_backbone("embedded"))
    probabilities = classifier(images[:1]).probabilities
    np.testing.assert_array_equal(probabilities[:, 0], probabilities[:, 1])
    with pytest.raises(UserError, match=r"Classes 0 \('red heart'\) and 1 \('red heart'\) give the same prompt"):
        classifier.classes = twins[:2]


def test_another_backbone_is_refused(embedded_run, tmp_path):
    backbone = weights.load_backbone("embedded")
    params = jax.tree.map(np.copy, backbone.params)
    params["text_projection"]["kernel"][0, 0] += 1
    weights.save(tmp_path / "other", backbone.config, params, np.float32)
    for file in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"):
        source = weights.EMBEDDED["embedded"] / file
        if source.exists():
            (tmp_path / "other" / file).write_bytes(source.read_bytes())
    with pytest.raises(UserError, match="trained on the backbone embedded with the fingerprint"):
        Classifier.load(embedded_run, backbone=str(tmp_path / "other"))


def test_in_words_and_in_part(classifier, images):
    prediction = classifier(images)
    lines = str(prediction).splitlines()
    assert len(lines) == 2 * len(prediction) == 10
    assert lines[0].startswith(f"image 0: {prediction.labels[0]} ")
    assert lines[1].strip().startswith("zero-shot CLIP: ")
    part = prediction.select([3, 1])
    assert part.images == ("image 3", "image 1")
    np.testing.assert_array_equal(part.paths["color"], prediction.paths["color"][[3, 1]])


def test_as_tables(classifier, images, monkeypatch):
    prediction = classifier(images)
    lines = repr(prediction).splitlines()
    assert lines[0] == "5 images among 4 classes."
    assert lines[2] == "| image | prediction | zero-shot CLIP | class | color | shape | texture |"
    assert lines[4].startswith(f"| image 0 | {prediction.labels[0]} ")
    assert prediction._repr_html_().count("<tr>") == 1 + 5
    monkeypatch.setattr(classifiers, "SHOWN", 2)
    assert repr(prediction).startswith("5 images among 4 classes, of which 2 are shown.")
    assert prediction._repr_html_().count("<tr>") == 1 + 2
    assert "| classes | green circle, red heart, and 2 more |" in repr(classifier)
    assert "| prompt | a photo of a {}. |" in repr(classifier)
    assert "<td class=\"number\">world_compositions, 3 classes, 1 shot</td>" in classifier._repr_html_()


def test_as_csv(classifier, images, tmp_path):
    prediction = classifier(images)
    prediction.to_csv(tmp_path / "said.csv")
    rows = list(csv.DictReader((tmp_path / "said.csv").read_text().splitlines()))
    assert [row["prediction"] for row in rows] == prediction.labels
    assert [row["color"] for row in rows] == [record["color"] for record in prediction.records()]
    np.testing.assert_allclose([float(row["probability"]) for row in rows], prediction.probabilities.max(axis=1), 1e-5)
    with pytest.raises(UserError, match=r"absent/said\.csv: No such file or directory"):
        prediction.to_csv(tmp_path / "absent" / "said.csv")


def test_for_pandas(classifier, images, monkeypatch):
    prediction = classifier(images)
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: rows))
    assert prediction.to_pandas() == prediction.records()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match=r"to_pandas needs pandas .*pip install pandas"):
        prediction.to_pandas()


def test_as_a_table_of_pandas(classifier, images):
    pandas = pytest.importorskip("pandas")
    frame = classifier(images).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["image"]) == [f"image {number}" for number in range(5)]
    assert frame["probability"].dtype == float


NOTEBOOK = """
import sys
import dear_jax
assert "jax" not in sys.modules and "Classifier" in dir(dear_jax)
from dear_jax import Classifier
classifier = Classifier.load({run!r}, classes=["red heart", "blue star"])
prediction = classifier({images!r})
print(prediction)
classifier.classes = ["star", "heart", "circle"]
assert classifier({images!r}).paths["color"].shape == (2, 3)
"""


@pytest.mark.slow
def test_in_a_fresh_process_as_in_a_notebook(embedded_run, images, tmp_path):
    from PIL import Image

    for index in range(2):
        Image.fromarray(images[index]).save(tmp_path / f"{index}.png")
    script = NOTEBOOK.format(run=str(embedded_run), images=str(tmp_path / "*.png"))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("zero-shot CLIP") == 2
    said = [line for line in run.stderr.splitlines() if not line.startswith("Encoding images: ")]  # after five seconds
    assert said == []
