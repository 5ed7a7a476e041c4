"""Job: adapt CLIP by one method over all seeds and variants of a plan, then evaluate it beside zero-shot CLIP.

plan -> backbone, programs, task -> batches -> steps -> checkpoints -> adapter file -> scores -> results.json and
results.md. Read `run` from top to bottom.
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import twice
from dear_jax.data.class_set import Task
from dear_jax.data.protocols import ALL
from dear_jax.errors import count
from dear_jax.evaluation import examples, summary
from dear_jax.evaluation.measure import measure, path_weights
from dear_jax.jobs.description import Description, describe_analysis, describe_backbone, describe_data
from dear_jax.methods import adapter_file, wording
from dear_jax.parallel import agreement, processes
from dear_jax.setup import backbones, data, departures, outcome
from dear_jax.setup.plans.train import TrainingPlan, make_plan
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import RoleMaps
from dear_jax.training import loop, profile, support
from dear_jax.training import program as programs_of
from dear_jax.training.program import Program, Runs

__all__ = ["describe", "make_plan", "run"]


def run(plan: TrainingPlan, workdir: epath.Path) -> None:
    """Train, or go on where an earlier start stopped; write and print the results.

    Raises:
        UserError: a bad input file; keys that do not fit the backbone; a non-finite loss.
    """
    with processes.open_workdir(plan.config, workdir) as (files, config_sha256):
        if summary.report_finished(files, trains=True):
            return
        with processes.together():
            backbone = backbones.load(plan.backbone)
            task = data.load_task(plan.data, backbone, files)
        agreement.check_alike(plan.config.values, task.data, f"{backbone.fingerprint}-{backbone.reading}")
        with processes.together():
            roles = RoleMaps(plan.roles, backbone)
            programs = make_programs(plan.variants, plan.backbone, backbone.config, roles)
            programs = tuple(program.sized(len(task.train[0])) for program in programs)
            loop.check_task(task, programs)
        _announce(plan, backbone, task, programs)

        files.send_metrics(plan.logging, plan.config.values)
        learned, steps = loop.train(plan.schedule, files, backbone, task, programs)
        used, images = tuple(roles.used.values()), twice.marks(task.train)
        trained = outcome.collect(plan, backbone, task, programs, learned, used, images)
        files.write_bytes(adapter_file.NAME, adapter_file.to_bytes(trained))

        print("Evaluating ...", flush=True)
        start = time.perf_counter()
        scores = measure(plan.measuring, plan.backbone, backbone, task.classes, trained)
        weights = path_weights(plan.backbone, backbone, trained)
        summary.log(files, steps, trained, scores, time.perf_counter() - start, weights)
        notes = _notes(plan, backbone, task)
        results = summary.make_results(plan, trained, scores, config_sha256, notes, task.classes, weights)
        examples.write(files, plan.measuring, task.classes, scores, trained, backbone.config.image_size)
        summary.report(results, files)


def _notes(plan: TrainingPlan, backbone: Backbone, task: Task) -> dict[str, Any]:
    """On the data, and whether results compare with published ones."""
    reasons = [*departures.of_backbone(backbone), *departures.of_listed_draws(task.data), *plan.departures]
    return departures.note(task.data, reasons)


def _announce(plan: TrainingPlan, backbone: Backbone, task: Task, programs: Sequence[Program]) -> None:
    if task.batch_size < plan.schedule.batch_size:
        print(f"All {task.batch_size} training images make one batch: config.train.batch_size is larger.", flush=True)
    names = list(task.classes)
    kinds = {name: "" if name == ALL else f"{name} " for name in names}
    sizes = ", ".join(count(len(c.class_names), f"{kinds[name]}class") for name, c in task.classes.items())
    seeds = plan.schedule.seeds
    whose = "seed" if len(seeds) == 1 else "each of the seeds"
    print(
        f"{plan.title} on {task.data['name']} ({sizes}), backbone {backbone.name} ({backbone.fingerprint}): "
        f"{count(len(task.train[0]), 'image')} of the {kinds[names[0]]}classes for {whose} "
        f"{', '.join(map(str, seeds))}.",
        flush=True,
    )
    if plan.data.protocol.sets > 1 and task.data["source"] == "folder":
        print(
            f"The protocol {plan.data.protocol.name} trains on half of the classes, to measure what becomes of the "
            "others. For an adapter of all your classes: --config=configs/few_shot.py:folder.",
            flush=True,
        )
    variants = [name for program in programs for name in program.names]
    if len(variants) > 1:
        print(f"{len(variants)} variants in {count(len(programs), 'program')}: {', '.join(variants)}.", flush=True)
    for remark in filter(None, (*plan.remarks, plan.trial)):
        print(remark, flush=True)


def describe(plan: TrainingPlan, description: Description) -> None:
    """The dry run: backbone, role map, data, and the work with its memory, by compiling the very step."""
    backbone = description.attempt(backbones.load, plan.backbone)
    if backbone is None:
        description.attempt(data.open_dataset, plan.data)  # its problems come out all the same
        return
    description.section("Backbone", describe_backbone(backbone))
    roles = RoleMaps(plan.roles, backbone, make=False)
    programs = description.attempt(make_programs, plan.variants, plan.backbone, backbone.config, roles)
    description.section("Role map", roles.found)
    task = description.attempt(data.load_task, plan.data, backbone)
    if task is not None:
        description.section("Data", describe_data(task.classes, _notes(plan, backbone, task)) | _describe_draws(task))
        for place in roles.missing.values():
            dataset = data.open_dataset(plan.data)
            rows = description.attempt(describe_analysis, plan.roles, backbone, dataset, *place)
            description.section("Role map, made first", rows)
    if task is not None and programs is not None:
        programs = tuple(program.sized(len(task.train[0])) for program in programs)
        description.attempt(loop.check_task, task, programs)
        description.section("Work", description.attempt(_describe_work, plan, backbone, task, programs))


def _describe_draws(task: Task) -> dict[str, Any]:
    """The images trained on."""
    counts = [np.bincount(split.labels, minlength=len(task.trained_on.class_names)) for split in task.train]
    return {
        "training images": f"{len(task.train[0])} per seed, {min(c.min() for c in counts)} to "
        f"{max(c.max() for c in counts)} per class"
    }


def _describe_work(
    plan: TrainingPlan, backbone: Backbone, task: Task, programs: Sequence[Program]
) -> dict[str, Any]:
    """Steps, trainable parameters, and the memory of one step by XLA's analysis of the compiled programs."""
    wanted = dict.fromkeys(program.method.wanted for program in programs)
    fitted = [support.describe(task, images) for images in wanted if images is not None]
    rows = {"fitted to": "; ".join(fitted)} if fitted else {}
    if programs[0].method.steps:
        runs, batches = loop.make_runs(plan.schedule, backbone, task, programs)
        steps, mesh = len(batches), runs.mesh
        batches.close()
        profile.check(plan.schedule.profile, steps)
        rows["steps"] = (
            f"{steps:,} ({runs.length.steps_per_epoch:,} an epoch), {count(len(runs.seeds), 'seed')} x "
            f"{count(task.batch_size, 'image')} each"
        )
        if plan.trial:
            rows["short"] = plan.trial
        rows["devices"] = (
            f"{mesh.size} {jax.devices()[0].device_kind}: {mesh.shape['run']} groups of runs x "
            f"{mesh.shape['data']} parts of their images and classes"
        )
        params = loop.place_backbone(plan.schedule, backbone, programs, mesh)
    else:
        profile.check(plan.schedule.profile, 0)
        rows["steps"] = f"none, for {count(len(plan.schedule.seeds), 'seed')}"
    for number, program in enumerate(programs, start=1):
        which = f" of program {number}" if len(programs) > 1 else ""
        if len(program.names) > 1 or which:
            rows[f"variants{which}"] = ", ".join(program.names)
        prompt = program.method.prompt(task.trained_on.dataset, task.trained_on.template)
        if prompt != task.trained_on.template:
            rows[f"prompt of the method{which}"] = repr(prompt)
        rows[f"trainable parameters{which}"] = _count(program, backbone, task)
        if program.method.steps:
            rows[f"memory of a step{which}"] = _describe_memory(program, runs, params, task)
    return rows


def _count(program: Program, backbone: Backbone, task: Task) -> str:
    """Trainable parameters of one program."""
    classes = len(task.trained_on.class_names)
    adapter = program.method.adapter_like(backbone.params, classes, program.starts[0])
    return f"{sum(leaf.size for leaf in jax.tree.leaves(adapter)):,} per seed and variant"


def _describe_memory(program: Program, runs: Runs, params: Any, task: Task) -> str:
    """Memory of a step of one program."""
    token_ids = wording.prompt_ids(program.method, task.trained_on)
    compiled = programs_of.compile_fitting(program, runs, params, token_ids)
    chunk = compiled.program.method.split.class_chunk
    at_a_time = f", with {chunk} class prompts at a time" if chunk else ""
    return f"{compiled.bytes / 2**20:,.0f} MiB per device{at_a_time}"
