"""From scores to results.json, results.md and the last row of metrics.jsonl, as the field's tables have them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from dear_jax import __version__
from dear_jax.data.class_set import ClassSet
from dear_jax.data.protocols import Protocol, summarize
from dear_jax.errors import UserError
from dear_jax.evaluation.accuracy import Scores
from dear_jax.evaluation.metrics import CONFIDENCE_METRICS, MAIN, class_accuracies
from dear_jax.files.workdir import Workdir
from dear_jax.methods import adapter_file
from dear_jax.methods.adapter_file import Part, Trained
from dear_jax.parallel import processes
from dear_jax.report import run_page, runs, tables
from dear_jax.setup import defaults, methods
from dear_jax.setup.plans.evaluate import EvaluationPlan
from dear_jax.setup.plans.train import TrainingPlan

RESULTS, TABLE = "results.json", "results.md"
Weights = Mapping[str, Mapping[str, np.ndarray]]  # of `measure.path_weights`


def make_results(
    plan: EvaluationPlan | TrainingPlan,
    trained: Trained | None,
    scores: Mapping[str, Scores],
    config_sha256: str,
    data: Mapping[str, Any],
    classes: Mapping[str, ClassSet] | None = None,
    weights: Weights | None = None,
) -> dict[str, Any]:
    """The content of results.json: percent per class set and what follows from them, and the data's notes.

    Args:
        plan: of the job; where there are adapters, their backbone and shots count.
        trained: the adapters that were measured.
        scores: on every class set.
        config_sha256: of config.json.
        data: where images, class names and splits come from.
        classes: the class sets, for the accuracy of each of their classes; None: without these.
        weights: of the paths in the prediction of the classes trained on.
    """
    protocol = plan.data.protocol
    results: dict[str, Any] = {
        "protocol": protocol.name,
        "dataset": data["name"],
        "backbone": trained.backbone if trained else plan.backbone.name,
        "shots": trained.shots if trained else plan.data.shots,
        "new_classes": _rule_of_new(plan, scores),
        "variants": {},
        "zero_shot": protocol.complete({name: of_set.zero_shot[MAIN] for name, of_set in scores.items()}),
        "data": dict(data),
        "config_sha256": config_sha256,
        "version": __version__,
    }
    more = {
        metric: _complete(protocol, metric, {name: one.zero_shot[metric] for name, one in found.items()}, scores)
        for metric, found in _further(scores).items()
    }
    if more:
        results["zero_shot_metrics"] = more
    of_classes = _class_accuracies(classes or {}, scores)
    if of_classes:
        results["classes"] = {name: of_set.notes for name, of_set in of_classes.items()}
    if isinstance(plan, TrainingPlan) and plan.trial:
        results["trial"] = plan.trial
    if isinstance(plan, TrainingPlan) and plan.selection:
        results["selection"] = dict(plan.selection)
    if trained:
        results["method"] = trained.method
        results["method_title"] = methods.find(trained.method).TITLE
        if trained.role_maps:
            results["role_maps"] = trained.role_maps
        results["trained_on"] = {"dataset": trained.dataset, "classes": len(trained.class_names)}
        results["trainable_parameters"] = _count_parameters(trained)
        for v, name in enumerate(trained.names):
            results["variants"][name] = _summarize_variant(protocol, trained, scores, v)
            if of_classes:
                results["variants"][name]["classes"] = {
                    of_set: _over_seeds(trained, found.adapted[:, v]) for of_set, found in of_classes.items()
                }
            if weights and name in weights:
                of_paths = {path: _over_seeds(trained, values) for path, values in weights[name].items()}
                results["variants"][name]["path_weights"] = of_paths
    return results


class _OfClasses(NamedTuple):
    """How good predictions are on each class of a set."""

    notes: dict[str, Any]  # names, how many test images, and percent of zero-shot CLIP
    adapted: np.ndarray  # percent, [S, V, C]


def _class_accuracies(classes: Mapping[str, ClassSet], scores: Mapping[str, Scores]) -> dict[str, _OfClasses]:
    """Of every class set whose predictions are known; a class without test images has NaN."""
    found = {}
    for name, class_set in classes.items():
        if (predictions := scores[name].predictions) is not None:
            count = len(class_set.class_names)
            percent = [
                class_accuracies(said.labels, predictions.labels, count)
                for said in (predictions.zero_shot, predictions.adapted)
            ]
            notes = {
                "names": list(class_set.class_names),
                "images": np.bincount(predictions.labels, minlength=count),
                "zero_shot": percent[0],
            }
            found[name] = _OfClasses(notes, percent[1][0])
    return found


def _over_seeds(trained: Trained, values: np.ndarray) -> dict[str, Any]:
    """Numbers [S, ...] by seed, with their mean and population standard deviation."""
    seeds = dict(zip(map(str, trained.seeds), values, strict=True))
    return {"seeds": seeds, "mean": values.mean(axis=0), "std": values.std(axis=0)}


def _further(scores: Mapping[str, Scores]) -> dict[str, dict[str, Scores]]:
    """Metric, but for the main one -> the class sets that have it."""
    metrics = dict.fromkeys(metric for of_set in scores.values() for metric in of_set.zero_shot if metric != MAIN)
    return {
        metric: {name: of_set for name, of_set in scores.items() if metric in of_set.zero_shot} for metric in metrics
    }


def _complete(
    protocol: Protocol, metric: str, row: dict[str, float], scores: Mapping[str, Scores]
) -> dict[str, float]:
    """A row of one metric with what follows from it.

    Nothing follows where a class set does not have the metric, or where less is better: no harmonic mean is of errors.
    """
    return protocol.complete(row) if row.keys() == scores.keys() and metric not in CONFIDENCE_METRICS else row


def _rule_of_new(plan: EvaluationPlan | TrainingPlan, scores: Mapping[str, Scores]) -> str:
    """How paths were weighed where a class was not trained on: the rule asked for, or the method's own."""
    measured = [of_set.rules[0] for of_set in scores.values() if len(of_set.rules) > 1 and not of_set.trained_on]
    return str(measured[0] if measured else plan.measuring.rule or "learned")


def _count_parameters(trained: Trained) -> dict[str, int]:
    """Variant -> how many numbers one seed of it has learned: all that an adapter holds, but for labels of images."""

    def count(part: Part) -> int:
        learned = [leaf for leaf in part.adapter.values() if np.issubdtype(leaf.dtype, np.floating)]
        return sum(math.prod(leaf.shape[2:]) for leaf in learned)  # leaves are [S, V, ...]

    return {name: count(part) for part in trained.parts for name in part.names}


def _summarize_variant(protocol: Protocol, trained: Trained, scores: Mapping[str, Scores], v: int) -> dict[str, Any]:
    """Rows per seed, their mean and spread; and, per class set, the mean and spread of each rule, new classes apart."""

    def summarize_metric(metric: str, found: Mapping[str, Scores]) -> dict[str, Any]:
        rows = [
            _complete(
                protocol, metric, {name: float(one.adapted[metric][0, s, v]) for name, one in found.items()}, scores
            )
            for s in range(len(trained.seeds))
        ]
        mean, std = summarize(rows)
        return {"seeds": dict(zip(map(str, trained.seeds), rows, strict=True)), "mean": mean, "std": std}

    def under_rules(trained_on: bool) -> dict[str, Any]:
        return {
            name: {
                str(rule): {"mean": float(values.mean()), "std": float(values.std())}
                for rule, values in zip(of_set.rules, of_set.adapted[MAIN][:, :, v], strict=True)
            }
            for name, of_set in scores.items()
            if len(of_set.rules) > 1 and of_set.trained_on == trained_on
        }

    trained_on = under_rules(True)
    rules = {"new_classes": under_rules(False), **({"trained_classes": trained_on} if trained_on else {})}
    more = {metric: summarize_metric(metric, found) for metric, found in _further(scores).items()}
    return summarize_metric(MAIN, scores) | rules | ({"metrics": more} if more else {})


def log(
    files: Workdir,
    step: int,
    trained: Trained,
    scores: Mapping[str, Scores],
    seconds: float,
    weights: Weights | None = None,
) -> None:
    """The row of the evaluation after `step`, which took `seconds`: per class set, per variant over the seeds.

    Columns are called after class sets; those of further metrics have the metric's name before a dot. Learned `weights`
    are there per variant and path, over the seeds.
    """
    evaluation = {
        name if metric == MAIN else f"{metric}.{name}": {"zero_shot": of_set.zero_shot[metric]}
        | {variant: of_set.adapted[metric][0, :, v].tolist() for v, variant in enumerate(trained.names)}
        for metric, found in {MAIN: scores, **_further(scores)}.items()
        for name, of_set in found.items()
    }
    row = {"step": step, "seconds": round(seconds, 3), "evaluation": evaluation}
    files.append_metrics(row | ({"path_weights": weights} if weights else {}))


def report(results: Mapping[str, Any], files: Workdir) -> None:
    """Write results.md, results.json, by which a run is finished, and the page; print the table."""
    table = tables.results_markdown(results)
    files.write_text(TABLE, table)
    files.write_json(RESULTS, results)
    if processes.is_first():
        files.write_text(run_page.PAGE, make_page(files.path))
    print(f"\n{table}\nAll files of this run are in {files.path}; {run_page.PAGE} opens in a browser.", flush=True)


def make_page(folder: epath.Path, run: str = "") -> str:
    """The page of a finished run from the files in its folder; `run` says whose it is, where it stands elsewhere.

    Raises:
        UserError: the folder holds no finished run, or a damaged one.
    """
    return render_page(run_page.read(folder), run)


def render_page(found: run_page.Files, run: str = "") -> str:
    """The same of files that were read, or made for it."""
    settings = defaults.differences(found.config)
    return run_page.render(found, settings, defaults.command(settings) if settings is not None else "", run)


def find_finished(folder: epath.Path, trains: bool) -> dict[str, Any] | None:
    """The results of a run; None where it has not come to them.

    Args:
        folder: its workdir.
        trains: whether an adapter belongs to it.

    Raises:
        UserError: what it left is no longer whole.
    """
    path = folder / RESULTS
    if not path.exists():
        return None
    results = runs.read_results(path)
    with runs.understood(path):
        tables.results_markdown(results)
    if trains:
        adapter_file.load(folder)
    return results


def report_finished(files: Workdir, trains: bool) -> bool:
    """Whether the run was finished before and is whole; then its table is printed again, and written where it is gone.

    What is damaged is named, and the run is to go on from its last checkpoint.
    """
    try:
        results = find_finished(files.path, trains)
    except UserError as error:
        print(f"This run was finished before, but {error}\nIt is measured again, from its last checkpoint.", flush=True)
        return False
    if results is None:
        return False
    table = tables.results_markdown(results)
    path = files.path / TABLE
    if not path.is_file() or path.read_bytes() != table.encode():
        files.write_text(TABLE, table)
    if processes.is_first() and not (files.path / run_page.PAGE).is_file():
        files.write_text(run_page.PAGE, make_page(files.path))
    print(f"\n{table}\nThis run was finished before, in {files.path}.")
    return True
