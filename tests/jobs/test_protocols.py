"""Jobs of every protocol on the embedded world: what they measure, variants beside single runs, adapters elsewhere."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from dear_jax import main
from dear_jax.methods import adapter_file as adapters
from tests.repository import REPOSITORY

pytestmark = pytest.mark.usefixtures("compilation_cache", "few_test_scenes", "in_the_repository")
SHORT = ["--config.seeds=1,2", "--config.data.shots=2", "--config.train.epochs=1", "--config.train.batch_size=8"]
# Float32 rounding over a few steps of AdamW, whose division by the root of a small second moment magnifies it.
CLOSE = dict(rtol=2e-4, atol=2e-6)


def config(name: str) -> str:
    return f"--config={REPOSITORY / 'configs' / name}"


@pytest.fixture(scope="module")
def clip(small_clip) -> list[str]:
    """Flags of the backbone; its heads have no role map."""
    return [f"--config.backbone={small_clip}", "--config.dear.mask.pattern=isolated"]


@pytest.fixture(scope="module")
def cross_dataset(compilation_cache, few_test_scenes, clip, tmp_path_factory):
    """A short training with three variants of two structures, on all classes, measured on other tasks."""
    workdir = tmp_path_factory.mktemp("runs") / "cross_dataset"
    variants = (
        "--config.variants=plain: | open: mask.pattern=open; optimizer.learning_rate=5e-4 | late: tokens.vision_layer=4"
    )
    here = os.getcwd()
    os.chdir(REPOSITORY)
    sys.path.insert(0, str(REPOSITORY))
    try:
        assert main.main([config("cross_dataset.py"), *SHORT, *clip, variants, f"--workdir={workdir}"]) == 0
    finally:
        sys.path.remove(str(REPOSITORY))
        os.chdir(here)
    return workdir


def results_of(workdir: Path) -> dict:
    return json.loads((workdir / "results.json").read_text())


def test_columns_of_a_transfer(cross_dataset):
    results = results_of(cross_dataset)
    targets = ["world_objects", "world_things", "world_places"]
    assert list(results["zero_shot"]) == ["world_compositions", *targets, "average"]
    assert list(results["data"]["targets"]) == targets
    assert list(results["variants"]) == ["plain", "open", "late"]
    for variant in results["variants"].values():
        for row in (*variant["seeds"].values(), variant["mean"]):
            assert row["average"] == pytest.approx(np.mean([row[name] for name in targets]))
        assert list(variant["new_classes"]) == targets  # classes that were not trained on
        for name, rules in variant["new_classes"].items():
            assert list(rules) == ["learned", "class_only", "equal"]
            assert rules["learned"]["mean"] == pytest.approx(variant["mean"][name])
    text = (cross_dataset / "results.md").read_text()
    assert "| late, world_places |" in text
    rows = [json.loads(line) for line in (cross_dataset / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["loss"].keys() == rows[-1]["evaluation"]["world_objects"].keys() - {"zero_shot"}


@pytest.mark.parametrize(
    ("variant", "flags"),
    [
        ("open", ["--config.dear.mask.pattern=open", "--config.optimizer.learning_rate=5e-4"]),
        pytest.param("late", ["--config.dear.tokens.vision_layer=4"], marks=pytest.mark.slow),
    ],
)
def test_a_variant_gives_what_its_run_alone_gives(variant, flags, cross_dataset, clip, tmp_path):
    alone = tmp_path / "alone"
    targets = "--config.eval.datasets=world_objects"
    assert main.main([config("cross_dataset.py"), *SHORT, *clip, *flags, targets, f"--workdir={alone}"]) == 0
    (part,) = adapters.load(alone).parts
    together = next(part for part in adapters.load(cross_dataset).parts if variant in part.names)
    v = together.names.index(variant)
    assert together.structure == part.structure
    for name, leaf in part.adapter.items():
        np.testing.assert_allclose(together.adapter[name][:, v], leaf[:, 0], **CLOSE, err_msg=name)
    np.testing.assert_array_equal(together.settings["head_mask"][v], part.settings["head_mask"][0])
    one, other = results_of(cross_dataset)["variants"][variant], results_of(alone)["variants"]["default"]
    for column in ("world_compositions", "world_objects"):  # one image of 200 may stand on the edge
        assert one["mean"][column] == pytest.approx(other["mean"][column], abs=0.5)


def test_a_trained_run_serves_domain_generalization(cross_dataset, tmp_path, capsys):
    flags = ["--config.job=evaluate", f"--config.run={cross_dataset}", "--config.eval.new_classes=0.9"]
    flags += ["--config.eval.datasets=world_compositions_outline"]
    assert main.main([config("domain_generalization.py"), *flags, f"--workdir={tmp_path / 'dg'}"]) == 0
    results, trained = results_of(tmp_path / "dg"), results_of(cross_dataset)
    assert results["trained_on"] == {"dataset": "world_compositions", "classes": 40}
    assert results["run"] == str(cross_dataset)
    assert results["shots"] == 2
    for name, variant in results["variants"].items():
        expected = trained["variants"][name]["mean"]["world_compositions"]
        assert variant["mean"]["world_compositions"] == pytest.approx(expected, abs=0.5)
        assert variant["new_classes"] == {}  # the classes are those trained on
    assert "world_compositions_outline" in capsys.readouterr().out


def test_adapters_go_to_any_data_set_and_the_rule_is_a_key(cross_dataset, tmp_path):
    flags = ["--config.job=evaluate", f"--config.run={cross_dataset / adapters.NAME}"]
    flags += ["--config.eval.new_classes=class_only"]
    assert main.main([config("few_shot.py:world_objects"), *flags, f"--workdir={tmp_path / 'run'}"]) == 0
    results, trained = results_of(tmp_path / "run"), results_of(cross_dataset)
    assert list(results["zero_shot"]) == ["accuracy"]
    for name, variant in results["variants"].items():
        rules = variant["new_classes"]["accuracy"]
        assert list(rules) == ["class_only", "learned", "equal"]
        assert variant["mean"]["accuracy"] == rules["class_only"]["mean"]
        expected = trained["variants"][name]["new_classes"]["world_objects"]
        for rule, values in rules.items():
            assert values["mean"] == pytest.approx(expected[rule]["mean"], abs=0.5)


@pytest.mark.slow
def test_few_shot_trains_and_tests_on_all_classes(clip, tmp_path, capsys):
    """Ten images, fewer than a batch: one step an epoch."""
    flags = ["--config.seeds=3", "--config.data.shots=1", "--config.train.epochs=2", f"--workdir={tmp_path / 'run'}"]
    assert main.main([config("few_shot.py:world_objects"), *clip, *flags]) == 0
    assert "All 10 training images make one batch" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 2
    results = results_of(tmp_path / "run")
    assert (results["protocol"], results["shots"]) == ("few_shot", 1)
    assert list(results["zero_shot"]) == list(results["variants"]["default"]["mean"]) == ["accuracy"]
    assert results["variants"]["default"]["new_classes"] == {}
    assert "| DeAR, seed 3 |" in (tmp_path / "run" / "results.md").read_text()


def test_what_a_dry_run_says_of_variants_and_of_a_run(cross_dataset, not_compiled, capsys):
    variants = "--config.variants=plain: | late: tokens.vision_layer=4"
    assert main.main([config("base2new.py"), "--dry_run", variants, "--config.seeds=1"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for line in ("variants of program 1 plain", "variants of program 2 late", "memory of a step of program 2"):
        assert line in output
    flags = ["--dry_run", "--config.job=evaluate", f"--config.run={cross_dataset}"]
    assert main.main([config("base2new.py"), *flags]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "trained on world_compositions, 40 classes, 2 shots" in output
    assert "variants plain, open, late" in output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.run=absent"], "no file or folder absent"),
        (
            ["--config.run=RUN", "--config.run_backbone=absent/absent/absent"],
            "config.backbone is 'absent/absent/absent'",
        ),
        (["--config.run=RUN", "--config.eval.datasets=world_object"], "no data set is called 'world_object'"),
    ],
)
def test_bad_input_of_an_evaluation(flags, message, cross_dataset, tmp_path, capsys):
    flags = [flag.replace("RUN", str(cross_dataset)) for flag in flags]
    name = config("cross_dataset.py")
    assert main.main([name, "--config.job=evaluate", *flags, f"--workdir={tmp_path / 'run'}"]) == 2
    assert message in capsys.readouterr().err


def test_another_backbone_is_refused(cross_dataset, small_clip, tmp_path, capsys):
    """The same architecture with other weights."""
    from safetensors.numpy import load_file, save_file

    other = shutil.copytree(small_clip, tmp_path / "clip")
    tensors = load_file(other / "model.safetensors")
    tensors["visual_projection.weight"] *= 2
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    flags = ["--config.job=evaluate", f"--config.run={cross_dataset}", f"--config.run_backbone={other}"]
    assert main.main([config("few_shot.py"), *flags, f"--workdir={tmp_path / 'run'}"]) == 2
    assert f"trained on the backbone {small_clip} with the fingerprint" in capsys.readouterr().err
