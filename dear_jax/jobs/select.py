"""Job: choose settings for a task from what may be trained on, without a test image.

    python -m dear_jax.main --config=configs/base2new.py --config.job=select --config.variants=fusion --workdir=chosen
    python -m dear_jax.main --config=configs/base2new.py --config.selection=chosen

plan -> folds of the training classes and images -> train all candidates and seeds of a fold together -> measure on
held-out images -> choose -> selection.json. Read `run` from top to bottom.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from dear_jax import __version__
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data.class_set import Task
from dear_jax.data.leave_out import Fold, leaves_classes_out, make_folds
from dear_jax.data.protocols import summarize
from dear_jax.errors import UserError, count
from dear_jax.evaluation.accuracy import Scores
from dear_jax.evaluation.choice import choose
from dear_jax.evaluation.measure import measure
from dear_jax.evaluation.metrics import MAIN
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, describe_backbone, describe_dataset
from dear_jax.methods import paths
from dear_jax.report import selection_table
from dear_jax.setup import backbones, candidates, data, outcome, selection
from dear_jax.setup.candidates import Candidate
from dear_jax.setup.plans.select import SelectionPlan, Training, make_plan
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import RoleMaps
from dear_jax.training import loop
from dear_jax.training.program import Program

__all__ = ["describe", "make_plan", "run"]

TABLE = "selection.md"
FOLDS = "folds"  # a workdir for each, with checkpoints while it is trained
SCORES = "scores.json"

Rows = dict[str, list[dict[str, float]]]  # candidate -> a row of accuracies per seed


def run(plan: SelectionPlan, workdir: epath.Path) -> None:
    """Train and measure every fold that is not done, then choose.

    Raises:
        UserError: a bad input file; too few classes or images; keys that do not fit the backbone.
    """
    with Workdir(workdir) as files:
        config_sha256 = files.check_config(plan.config)
        if _report_finished(files):
            return
        backbone = backbones.load(plan.backbone)
        dataset = data.open_dataset(plan.data, files)
        folds = make_folds(dataset, plan.data.protocol, plan.data.shots, plan.folds, plan.images, plan.seed)
        roles = RoleMaps(plan.roles, backbone)
        programs = [make_programs(of.variants, plan.backbone, backbone.config, roles) for of in plan.trainings]
        method = programs[0][0].method
        found = candidates.distinct(plan.candidates, method.new_classes, len(method.paths) > 1)
        _announce(plan, backbone, folds, found)

        rows: list[tuple[Rows, dict[str, float]]] = []
        for number, fold in enumerate(folds, start=1):
            within = dataclasses.replace(plan.data, protocol=fold.protocol, measured_split="test")  # the fold's own
            task = data.make_task(within, fold.dataset, backbone)
            of_fold: Rows = {}
            zero_shot: dict[str, float] = {}
            for training, of_training in zip(plan.trainings, programs, strict=True):
                place = files.path / FOLDS / f"{number}_of_{len(folds)}" / f"share_{training.share:g}"
                print(f"Fold {number} of {len(folds)}: {_sizes(task)}.", flush=True)
                more, zero_shot = _measure(plan, training, of_training, backbone, task, fold, found, place)
                of_fold |= more
            rows.append((of_fold, zero_shot))
        content = _choose(plan, backbone, folds, found, rows) | {"config_sha256": config_sha256, "version": __version__}
        table = selection_table.to_markdown(content)
        files.write_text(TABLE, table)
        files.write_json(selection.NAME, content)
        print(f"\n{table}\nA run takes it by --config.selection={files.path}.", flush=True)


def _measure(
    plan: SelectionPlan,
    training: Training,
    programs: Sequence[Program],
    backbone: Backbone,
    task: Task,
    fold: Fold,
    found: Sequence[Candidate],
    place: epath.Path,
) -> tuple[Rows, dict[str, float]]:
    """Of one fold and share: the candidates' rows per seed, and zero-shot CLIP's; trained unless it was before."""
    mine = [candidate for candidate in found if candidate.share == training.share]
    with Workdir(place) as files:
        content = _read_scores(files, mine)
        if content is None:
            programs = tuple(program.sized(len(task.train[0])) for program in programs)
            loop.check_task(task, programs)
            learned, _ = loop.train(training.schedule, files, backbone, task, programs)
            trained = outcome.collect(plan, backbone, task, programs, learned)
            rules = tuple(dict.fromkeys(paths.parse_rule(candidate.rule) for candidate in mine))
            scores = measure(plan.measuring, plan.backbone, backbone, task.classes, trained, rules)
            names = {name: v for v, name in enumerate(trained.names)}
            content = {
                "rows": {
                    one.name: [
                        fold.protocol.complete(_row(scores, paths.parse_rule(one.rule), s, names[one.variant]))
                        for s in range(len(trained.seeds))
                    ]
                    for one in mine
                },
                "zero_shot": fold.protocol.complete({name: of.zero_shot[MAIN] for name, of in scores.items()}),
            }
            files.write_json(SCORES, content)
            files.checkpoints.rmtree(missing_ok=True)  # of every candidate: nothing reads them any more
    return content["rows"], content["zero_shot"]


def _read_scores(files: Workdir, candidates: Sequence[Candidate]) -> dict[str, Any] | None:
    """What an earlier start has measured; None where it has not, or where that is damaged."""
    if not (files.path / SCORES).exists():
        return None
    try:
        content = files.read_json(SCORES)
        if {one.name for one in candidates} <= content["rows"].keys() and content["zero_shot"].keys():
            return content
        raise KeyError("a candidate")
    except (UserError, KeyError, TypeError, AttributeError) as error:
        print(f"{files.path / SCORES} is damaged, and this fold is trained again: {error}", flush=True)
    return None


def _report_finished(files: Workdir) -> bool:
    """Whether the selection was made before and is whole; then its table is printed again."""
    if not (files.path / selection.NAME).exists():
        return False
    try:
        _, content = selection.read(str(files.path))
        table = selection_table.to_markdown(content)
    except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
        print(f"This selection was finished before, and is made again from its folds, because {error}", flush=True)
        return False
    path = files.path / TABLE
    if not path.is_file() or path.read_bytes() != table.encode():
        files.write_text(TABLE, table)
    print(f"\n{table}\nThis selection was finished before, in {files.path}.")
    return True


def _row(scores: Mapping[str, Scores], rule: paths.Rule, s: int, v: int) -> dict[str, float]:
    """Accuracies of one seed and variant; classes trained on have the learned weights whatever the rule."""
    return {
        name: float(of_set.adapted[MAIN][of_set.rules.index("learned" if of_set.trained_on else rule), s, v])
        for name, of_set in scores.items()
    }


def _choose(
    plan: SelectionPlan,
    backbone: Backbone,
    folds: Sequence[Fold],
    found: Sequence[Candidate],
    rows: Sequence[tuple[Rows, dict[str, float]]],
) -> dict[str, Any]:
    """The content of selection.json."""
    columns = list(rows[0][1])
    last = columns[-1]
    by_fold = [[[row[last] for row in of_fold[one.name]] for of_fold, _ in rows] for one in found]  # [C, K, S]
    scores = np.array(by_fold)
    choice = choose(scores.mean(axis=2) if len(folds) > 1 else scores[:, 0])
    listed = []
    for number, candidate in enumerate(found):
        mean, std = summarize([row for of_fold, _ in rows for row in of_fold[candidate.name]])
        mean[last] = float(scores[number].mean())  # what was chosen by
        own = {"name": candidate.name, "settings": dict(candidate.settings), "mean": mean, "std": std}
        listed.append(own | {"tied": number in choice.tied, "folds": [of_fold[candidate.name] for of_fold, _ in rows]})
    chosen = listed[choice.chosen]
    return {
        "method": plan.method,
        "title": plan.title,
        "protocol": plan.data.protocol.name,
        "dataset": plan.data.dataset,
        "backbone": backbone.name,
        "fingerprint": backbone.fingerprint,
        "shots": plan.data.shots,
        "seeds": list(plan.data.seeds),
        "measured_on": _describe_folds(plan, folds),
        "columns": columns,
        "zero_shot": {column: float(np.mean([zero_shot[column] for _, zero_shot in rows])) for column in columns},
        "candidates": listed,
        "best": listed[choice.best]["name"],
        "chosen": {"name": chosen["name"], "settings": chosen["settings"]},
    }


def _describe_folds(plan: SelectionPlan, folds: Sequence[Fold]) -> str:
    """What was trained on and measured, as a sentence."""
    held_out = folds[0].dataset.test
    images = f"{count(len(held_out), 'held-out image')} of training and validation"
    if not leaves_classes_out(plan.data.protocol):
        return f"Measured on {images}, all classes trained on; seeds {', '.join(map(str, plan.data.seeds))}."
    sizes = [len(labels) for labels in folds[0].protocol.class_sets(folds[0].dataset).values()]
    return (
        f"Leave-classes-out: {len(folds)} folds, each trained on {sizes[0]} of the training classes (Base), measured "
        f"on them and on {sizes[1]} others (New), together {images}; seeds {', '.join(map(str, plan.data.seeds))}."
    )


def _sizes(task: Task) -> str:
    sizes = ((name, len(of.class_names), len(of.test)) for name, of in task.classes.items())
    sets = ", ".join(f"{count(many, f'{name} class')} with {count(images, 'image')}" for name, many, images in sizes)
    return f"{count(len(task.train[0]), 'training image')} for each seed; {sets}"


def _announce(plan: SelectionPlan, backbone: Backbone, folds: Sequence[Fold], found: Sequence[Candidate]) -> None:
    where = f"{plan.title} on {plan.data.dataset}, backbone {backbone.name}"
    print(f"{where}: {count(len(found), 'candidate')}, {count(len(folds), 'fold')}.", flush=True)
    for remark in plan.remarks:
        print(remark, flush=True)


def describe(plan: SelectionPlan, description: Description) -> None:
    """The dry run: backbone, data, folds and candidates."""
    backbone = description.attempt(backbones.load, plan.backbone)
    dataset = description.attempt(data.open_dataset, plan.data)
    if backbone is not None:
        description.section("Backbone", describe_backbone(backbone))
    if dataset is not None:
        if backbone is not None:
            description.attempt(data.check_names, plan.data, dataset, backbone)
        description.section("Data", describe_dataset(dataset, data.class_prompts(plan.data, dataset)))
        arguments = (plan.data.protocol, plan.data.shots, plan.folds, plan.images, plan.seed)
        folds = description.attempt(make_folds, dataset, *arguments)
        if folds is not None:
            description.section("Folds", {"measured on": _describe_folds(plan, folds)})
    found = plan.candidates
    if backbone is not None:
        roles = RoleMaps(plan.roles, backbone, make=False)
        for training in plan.trainings:
            programs = description.attempt(make_programs, training.variants, plan.backbone, backbone.config, roles)
            if programs is not None:
                method = programs[0].method
                found = candidates.distinct(plan.candidates, method.new_classes, len(method.paths) > 1)
        description.section("Role map", roles.found)
    settings = {one.name: ", ".join(f"{k} = {v}" for k, v in one.settings.items()) or "as the config" for one in found}
    description.section("Candidates", settings)
