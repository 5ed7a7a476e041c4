"""Runs of methods that are fitted to features: what they read, what they refuse, and variants side by side."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from configs import base2new, few_shot
from dear_jax import Classifier
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.split import logit_scale, plain_split
from dear_jax.data import pipeline
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.images import FileLoader
from dear_jax.errors import UserError
from dear_jax.files.workdir import Workdir
from dear_jax.jobs import train as job
from dear_jax.methods import adapter_file, wording
from dear_jax.setup import data, outcome, runs
from dear_jax.setup.plans import train as plans
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import NoRoleMaps
from dear_jax.training import loop

pytestmark = pytest.mark.usefixtures("compilation_cache")
METHODS = ("tip_adapter", "tip_adapter_f", "lpp", "linear_probe")


def make_plan(method, backbone, config=few_shot, **changes):
    keys = {"method": method, "backbone": backbone, "data.shots": 2, "seeds": (1, 2)}
    keys |= {key.replace("__", "."): value for key, value in changes.items()}
    asked = config.get_config("world_objects")
    asked.update_from_flattened_dict(keys)  # as flags do, which leaves open keys open
    return plans.make_plan(asked)


def unreadable(split: ImageSplit) -> ImageSplit:
    return ImageSplit(split.labels, FileLoader(epath.Path("absent"), tuple(map(str, range(len(split))))))


@pytest.fixture
def secret_test_images(monkeypatch):
    """A data set whose test images cannot be read; as ImageNet's, they may be its validation images as well."""
    load, shared = data.load_dataset, []

    def load_dataset(*arguments):
        dataset = load(*arguments)
        test = unreadable(dataset.test)
        return dataclasses.replace(dataset, test=test, **({"val": test} if shared else {}))

    monkeypatch.setattr(data, "load_dataset", load_dataset)
    return lambda: shared.append(True)


def fit(plan, folder):
    """What a run has learned, by variant, before any evaluation; and the rows of its metrics."""
    backbone = weights.load_backbone(plan.backbone.name)
    task = data.load_task(plan.data, backbone)
    programs = make_programs(plan.variants, plan.backbone, backbone.config, NoRoleMaps(2, 2))
    programs = [program.sized(len(task.train[0])) for program in programs]
    with Workdir(epath.Path(folder)) as files:
        learned, _ = loop.train(plan.schedule, files, backbone, task, programs)
    found = {
        name: jax.tree.map(lambda leaf, v=v: np.asarray(leaf)[:, v], adapter)
        for program, adapter in zip(programs, learned, strict=True)
        for v, name in enumerate(program.names)
    }
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return found, rows, outcome.collect(plan, backbone, task, programs, learned)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("validation", ["its own", "the test images"])
def test_no_test_image_is_read_before_the_evaluation(
    method, validation, secret_test_images, tiny_clip, tmp_path, capsys
):
    if validation == "the test images":
        secret_test_images()
    found, rows, _ = fit(make_plan(method, tiny_clip), tmp_path)
    assert all(np.isfinite(leaf).all() for leaf in found["default"].values())
    numbers = rows[-1]["fit"]
    searches = validation == "its own" or not method.startswith("tip")
    assert ("validation_accuracy" in numbers) is searches
    assert ("has no validation images apart from its test images" in capsys.readouterr().out) is not searches
    if not searches:
        assert (numbers["alpha"], numbers["beta"]) == ({"default": [1.17, 1.17]}, {"default": [1.0, 1.0]})


@pytest.mark.parametrize(
    ("method", "variants"),
    [
        ("tip_adapter", "a: | b: search=false; alpha=2; beta=5 | c: passes=0"),
        ("tip_adapter_f", "a: optimizer.learning_rate=0.01 | b: search=false"),
        ("lpp", "a: | b: rate=0.1 | c: iterations=5; choose=false"),
        ("linear_probe", "a: | b: inverse_l2=1"),
    ],
)
def test_variants_side_by_side_are_what_they_are_alone(method, variants, tiny_clip, tmp_path):
    together, rows, _ = fit(make_plan(method, tiny_clip, variants=variants), tmp_path / "together")
    parts = [part.strip() for part in variants.split("|")]
    for part in parts:
        name = part.split(":")[0]
        alone, row, _ = fit(make_plan(method, tiny_clip, variants=part), tmp_path / name)
        # Float32: seeds and variants may be run in another order, on other shapes.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), alone[name], together[name])
        assert set(row[-1]["fit"]) <= set(rows[-1]["fit"])
    assert any((together["a"][leaf] != together["b"][leaf]).any() for leaf in together["a"])


def test_seeds_have_images_of_their_own(tiny_clip, tmp_path):
    found = fit(make_plan("tip_adapter", tiny_clip), tmp_path)[0]["default"]
    assert (found["keys"][0] != found["keys"][1]).any(axis=-1).all()
    np.testing.assert_allclose(np.linalg.norm(found["keys"], axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.bincount(found["labels"][0]), 2)


def test_a_run_that_starts_again_writes_its_rows_anew(tiny_clip, tmp_path):
    first, second = (fit(make_plan("linear_probe", tiny_clip), tmp_path) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first[0], second[0])
    assert [list(row) for row in second[1]] == [["step", "fit_seconds", "fit"]]


@pytest.mark.parametrize("method", METHODS)
def test_new_classes_are_refused(method, tiny_clip, tmp_path):
    with pytest.raises(UserError, match=r"no others, all of them and in their order; new has others"):
        job.run(make_plan(method, tiny_clip, base2new), tmp_path)


@pytest.mark.parametrize("method", ["tip_adapter", "lpp", "linear_probe"])
@pytest.mark.parametrize("key", ["train.epochs", "train.steps"])
def test_steps_are_refused_where_there_are_none(method, key, tiny_clip):
    with pytest.raises(UserError, match=f"config[.]{key} is 3, expected 0: {method} is fitted to its images at once"):
        make_plan(method, tiny_clip, **{key: 3})


@pytest.mark.parametrize("method", ["dear", "tip_adapter_f"])
def test_no_steps_are_refused_where_there_are_some(method, tiny_clip):
    with pytest.raises(UserError, match=r"config\.train\.epochs is 0, expected 1 or more"):
        make_plan(method, tiny_clip, train__epochs=0)


def test_a_file_of_other_shapes_is_refused(tiny_clip, tmp_path):
    plan = make_plan("tip_adapter", tiny_clip)
    trained = fit(plan, tmp_path)[2]
    backbone = weights.load_backbone(tiny_clip)
    again = adapter_file.to_bytes(trained)
    (tmp_path / adapter_file.NAME).write_bytes(again)
    (restored,) = runs.restore(adapter_file.load(tmp_path), backbone, np.float32)
    assert restored.method.images == 20
    (part,) = trained.parts
    cut = dataclasses.replace(part, adapter=part.adapter | {"keys": part.adapter["keys"][:, :, 1:]})
    message = r"tip_adapter .*images 20.* does not fit .*: keys is \(19, 8\), expected \(20, 8\)"
    with pytest.raises(UserError, match=message):
        runs.restore(dataclasses.replace(trained, parts=(cut,)), backbone, np.float32)
    missing = {name: leaf for name, leaf in part.adapter.items() if name != "labels"}
    with pytest.raises(UserError, match=r"labels is missing, expected \(20,\)"):
        runs.restore(
            dataclasses.replace(trained, parts=(dataclasses.replace(part, adapter=missing),)), backbone, np.float32
        )


def test_a_classifier_reads_the_names_as_the_fit_did(tiny_clip, tmp_path):
    """The mean over an ensemble, which the run's file says."""
    (tmp_path / "prompts.txt").write_text("a photo of a {}.\n{}.\na striped {}.\n")
    plan = make_plan("tip_adapter", tiny_clip, data__template=str(tmp_path / "prompts.txt"), seeds=(1,))
    trained = fit(plan, tmp_path)[2]
    (tmp_path / adapter_file.NAME).write_bytes(adapter_file.to_bytes(trained))
    backbone = weights.load_backbone(tiny_clip)
    task = data.load_task(plan.data, backbone)
    classifier = Classifier(adapter_file.load(tmp_path), backbone)
    split = task.trained_on.test.subset(range(6))
    found = classifier([split.load(index) for index in range(6)])
    plain, (batch,) = plain_split(backbone.config), pipeline.eval_batches(split, 6, backbone.config.image_size)
    images = plain.look(backbone.params, jnp.asarray(batch["image"])).features
    text = wording.plain_features(plain, backbone.params, task.trained_on)
    expected = jax.nn.softmax(logit_scale(backbone.params) * images @ text.T)
    np.testing.assert_allclose(found.zero_shot, expected, atol=1e-5)
    assert classifier.trained.ensemble == ("a photo of a {}.", "{}.", "a striped {}.")
    with pytest.raises(UserError, match="all of them and in their order"):
        classifier.classes = trained.class_names[::-1]
