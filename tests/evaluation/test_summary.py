"""From scores to results.json, results.md and the row of metrics.jsonl: every metric, the main one as ever."""

import dataclasses
import json

import numpy as np
import pytest

from configs import base
from dear_jax.data.class_set import ClassSet
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.evaluation import summary
from dear_jax.evaluation.accuracy import Predictions, Said, Scores
from dear_jax.files.workdir import Workdir
from dear_jax.methods.adapter_file import Part, Trained
from dear_jax.report import tables
from dear_jax.setup import values
from dear_jax.setup.plans import evaluate

RULES = ("learned", "class_only")
DATA = {"name": "pets", "remark": ""}


@pytest.fixture
def trained():
    part = Part({}, ("a", "b"), {}, {})
    return Trained(
        method="dear",
        backbone="tiny",
        fingerprint="0",
        image_size=None,
        dataset="pets",
        template="a photo of a {}.",
        class_names=("cat", "dog"),
        shots=4,
        seeds=(1, 5),
        parts=(part,),
    )


def make_scores(names):
    """On base under one rule, on new under two; the metrics by number, so that each value can be told."""

    def on(first, rules):
        values = first + np.arange(len(rules) * 4.0).reshape(len(rules), 2, 2)
        adapted = {name: values + 20 * number for number, name in enumerate(names)}
        return Scores(adapted, {name: first - 1.0 + 20 * number for number, name in enumerate(names)}, rules)

    return {"base": on(40.0, RULES[:1]), "new": on(60.0, RULES)}


def make_results(trained, scores):
    config = values.set_all(base.get_config(), {"backbone": "other", "data.shots": 1})
    return summary.make_results(evaluate.make_plan(config), trained, scores, "sha", DATA)


def test_without_further_metrics_results_have_none(trained):
    results = make_results(trained, make_scores(["accuracy"]))
    assert results["zero_shot"] == {"base": 39.0, "new": 59.0, "hm": pytest.approx(2 * 39 * 59 / 98)}
    assert (results["backbone"], results["shots"], results["method_title"]) == ("tiny", 4, "DeAR")
    variant = results["variants"]["b"]
    assert variant.keys() == {"seeds", "mean", "std", "new_classes"}
    assert [row["new"] for row in variant["seeds"].values()] == [61.0, 63.0]
    assert (variant["mean"]["base"], variant["std"]["base"]) == (42.0, 1.0)
    assert variant["new_classes"] == {
        "new": {"learned": {"mean": 62.0, "std": 1.0}, "class_only": {"mean": 66.0, "std": 1.0}}
    }
    assert not any("metric" in key for key in results)
    assert (results["method"], results["trainable_parameters"]) == ("dear", {"a": 0, "b": 0})


def test_trainable_parameters_are_those_of_one_seed_of_each_variant(trained):
    def part(names, *shapes):
        leaves = {str(number): np.zeros((2, len(names), *shape)) for number, shape in enumerate(shapes)}
        leaves["labels"] = np.zeros((2, len(names), 7), np.int32)  # of images are not learned
        return Part({}, names, leaves, {"settings are not learned": np.zeros((len(names), 9))})

    parts = (part(("a",), (3, 4), ()), part(("b", "c"), (5,)))
    scores = Scores({"accuracy": np.zeros((1, 2, 3))}, {"accuracy": 0.0}, RULES[:1])
    results = make_results(dataclasses.replace(trained, parts=parts), {"base": scores, "new": scores})
    assert results["trainable_parameters"] == {"a": 13, "b": 5, "c": 5}


def test_a_further_metric_is_in_every_file(trained, tmp_path):
    before = make_results(trained, make_scores(["accuracy"]))
    scores = make_scores(["accuracy", "macro"])
    results = json.loads(json.dumps(make_results(trained, scores)))
    assert results["zero_shot_metrics"]["macro"] == {"base": 59.0, "new": 79.0, "hm": pytest.approx(2 * 59 * 79 / 138)}
    macro = results["variants"]["b"]["metrics"]["macro"]
    assert {seed: row["base"] for seed, row in macro["seeds"].items()} == {"1": 61.0, "5": 63.0}
    assert (macro["mean"]["new"], macro["std"]["new"]) == (82.0, 1.0)
    assert macro["mean"]["hm"] == pytest.approx(2 * 62 * 82 / 144)
    without = {
        name: {key: value for key, value in variant.items() if key != "metrics"}
        for name, variant in results["variants"].items()
    }
    assert {**results, "variants": without} == {**before, "zero_shot_metrics": results["zero_shot_metrics"]}

    table, main = tables.results_markdown(results), tables.results_markdown(before)
    assert table.startswith(main)
    assert "By the metric macro." in table
    assert "| DeAR b, mean ± std | 62.00 ± 1.00 | 82.00 ± 1.00 |" in table.removeprefix(main)

    files = Workdir(tmp_path)
    summary.log(files, 7, trained, scores, 1.5)
    files.flush_metrics()
    files.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["step"] == 7
    assert row["evaluation"] == {
        "base": {"zero_shot": 39.0, "a": [40.0, 42.0], "b": [41.0, 43.0]},
        "new": {"zero_shot": 59.0, "a": [60.0, 62.0], "b": [61.0, 63.0]},
        "macro.base": {"zero_shot": 59.0, "a": [60.0, 62.0], "b": [61.0, 63.0]},
        "macro.new": {"zero_shot": 79.0, "a": [80.0, 82.0], "b": [81.0, 83.0]},
    }


def test_what_some_class_sets_do_not_know_is_told_of_the_others(trained, tmp_path):
    scores = make_scores(["accuracy"])
    before = make_results(trained, scores)
    adapted, zero_shot = {"worst_group": np.full((2, 2, 2), 30.0)}, {"worst_group": 20.0}
    of_new = scores["new"]._replace(
        adapted=scores["new"].adapted | adapted, zero_shot=scores["new"].zero_shot | zero_shot
    )
    results = make_results(trained, {"base": scores["base"], "new": of_new})
    assert results["zero_shot_metrics"] == {"worst_group": {"new": 20.0}}  # without HM, which needs both
    assert results["variants"]["b"]["metrics"]["worst_group"]["mean"] == {"new": 30.0}
    assert results["zero_shot"] == before["zero_shot"]
    table = tables.results_markdown(results).removeprefix(tables.results_markdown(before)).splitlines()
    assert table[1].startswith("Worst-group accuracy")
    assert table[3:] == [
        "|  | New |",
        "| --- | ---: |",
        "| zero-shot CLIP | 20.00 |",
        "| DeAR a, mean ± std | 30.00 ± 0.00 |",
        "| DeAR b, mean ± std | 30.00 ± 0.00 |",
    ]
    with Workdir(tmp_path) as files:
        summary.log(files, 1, trained, {"base": scores["base"], "new": of_new}, 0.5)
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert list(row["evaluation"]) == ["base", "new", "worst_group.new"]


def test_metrics_of_the_page_are_in_results_and_not_in_the_table(trained):
    scores = make_scores(["accuracy", "macro_f1", "calibration_error"])
    results = make_results(trained, scores)
    assert results["zero_shot_metrics"]["macro_f1"].keys() == {"base", "new", "hm"}
    assert results["zero_shot_metrics"]["calibration_error"] == {"base": 79.0, "new": 99.0}  # no HM of errors
    assert results["variants"]["a"]["metrics"]["calibration_error"]["mean"] == {"base": 81.0, "new": 101.0}
    assert tables.results_markdown(results) == tables.results_markdown(make_results(trained, make_scores(["accuracy"])))
    assert [table.caption.partition(":")[0] for table in tables.results_tables(results, whole=True)][-2:] == [
        "Macro-F1",
        "Expected calibration error",
    ]


def test_accuracies_of_classes_are_in_the_results(trained, tmp_path):
    labels = np.array([0, 0, 1, 1])

    def said(*labels):
        return Said(np.array(labels), np.full(np.shape(labels), 0.5))

    # The rule in force, and another that must not count; seeds; variants a and b.
    rows = [[[[0, 0, 1, 1], [1, 1, 1, 1]], [[0, 1, 1, 1], [1, 1, 1, 1]]], [[[1, 1, 0, 0]] * 2] * 2]
    found = Predictions(said(*rows), said(0, 0, 0, 1), said(*[[[0, 0, 1, 1]]] * 2), labels, ("class",))
    classes = ClassSet(
        ("cat", "dog", "none"), "pets", "{}", ("{}",), ("cat", "dog", "none"), len, ImageSplit(labels, len)
    )
    scores = {name: of_set._replace(predictions=found) for name, of_set in make_scores(["accuracy"]).items()}
    weights = {"a": {"class": np.array([0.5, 0.7]), "color": np.array([0.5, 0.3])}}
    plan = evaluate.make_plan(base.get_config())
    with Workdir(tmp_path) as files:
        made = summary.make_results(plan, trained, scores, "sha", DATA, {"base": classes, "new": classes}, weights)
        files.write_json("results.json", made)
        summary.log(files, 3, trained, scores, 0.5, weights)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["classes"]["base"] == {
        "names": ["cat", "dog", "none"],
        "images": [2, 2, 0],
        "zero_shot": [100.0, 50.0, None],
    }
    of_a = results["variants"]["a"]["classes"]["base"]
    assert of_a["seeds"] == {"1": [100.0, 100.0, None], "5": [50.0, 100.0, None]}
    assert (of_a["mean"], of_a["std"]) == ([75.0, 100.0, None], [25.0, 0.0, None])
    assert results["variants"]["b"]["classes"]["new"]["mean"] == [0.0, 100.0, None]
    color = results["variants"]["a"]["path_weights"]["color"]
    assert (color["seeds"], color["mean"]) == ({"1": 0.5, "5": 0.3}, pytest.approx(0.4))
    assert "path_weights" not in results["variants"]["b"]
    assert "| weight | 0.600 ± 0.100 | 0.400 ± 0.100 |" in tables.results_markdown(results)
    row = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert row["path_weights"] == {"a": {"class": [0.5, 0.7], "color": [0.5, 0.3]}}
