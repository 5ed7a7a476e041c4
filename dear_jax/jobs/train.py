"""Job: train DeAR over all seeds and variants of a config, then evaluate it beside zero-shot CLIP.

config -> backbone, programs, task -> batches -> steps -> checkpoints -> adapter file -> accuracies -> results.json and
results.md. Read `run` from top to bottom.
"""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.data import pipeline
from dear_jax.files.checkpoint import Checkpointer
from dear_jax.files.workdir import Workdir
from dear_jax.jobs import evaluate
from dear_jax.methods import adapter_file as adapters
from dear_jax.methods.adapter_file import Part, Trained
from dear_jax.methods.dear.tokens import Adapter
from dear_jax.parallel import agreement as hosts
from dear_jax.parallel import processes, sharding
from dear_jax.parallel.sharding import Specs
from dear_jax.setup import data as setup_data
from dear_jax.setup import programs as setup
from dear_jax.setup import variants as setup_variants
from dear_jax.setup.programs import Program
from dear_jax.training import program as train_program
from dear_jax.training.interruption import Interruption
from dear_jax.training.optimizer import Length
from dear_jax.training.program import Runs
from dear_jax.training.progress import ProgressLog, log_evaluation
from dear_jax.training.step import Frozen, TrainState

States = tuple[TrainState, ...]  # one per program, leaves [S, V, ...]


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Train, or go on where an earlier start stopped; write and print the results.

    Raises:
        UserError: a bad config value or input file; a non-finite loss.
    """
    setup.check(config)
    with processes.open_workdir(config, workdir) as (files, config_sha256):
        if evaluate.report_finished(files):
            return
        with processes.together():
            backbone = setup.load_backbone(config)
            task = setup_data.load_task(config, backbone, files)
        hosts.check_alike(config, task.data, backbone.fingerprint)
        with processes.together():
            programs = setup.make_programs(setup_variants.variant_configs(config), backbone)
        _describe(config, backbone, task, programs)

        trained, steps = train(config, files, backbone, task, programs)
        files.write_bytes(adapters.NAME, adapters.to_bytes(trained))

        print("Evaluating ...", flush=True)
        start = time.perf_counter()
        accuracies = evaluate.measure(config, backbone, task.classes, trained)
        log_evaluation(files, steps, trained.names, accuracies, time.perf_counter() - start)
        evaluate.report(evaluate.summarize(config, trained, accuracies, config_sha256, task.data), files)


def train(
    config: ConfigDict, files: Workdir, backbone: Backbone, task: setup_data.Task, programs: Sequence[Program]
) -> tuple[Trained, int]:
    """What is learned, from the latest checkpoint on if there is one; and the number of steps."""
    mesh, specs = make_layout(config, task, programs)
    batches = make_batches(config, backbone, task, mesh, specs)
    epoch_steps = len(batches) // config.train.epochs
    runs = Runs(tuple(config.seeds), task.batch_size, Length(config.train.epochs, epoch_steps), mesh, specs)
    params = cast(backbone.params, programs[0].model.dtype)
    params = sharding.place_backbone(params, mesh, config.compute.shard_backbone)
    updates = [_compile(program, runs, params, task) for program in programs]
    fixed = [_place_fixed(update.program, params, task, runs) for update in updates]
    states: States = tuple(train_program.initial_state(program, runs, backbone.params) for program in programs)

    made_with = {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    with Checkpointer(files.checkpoints, keep=config.train.keep_checkpoints) as checkpointer:
        first_step = 0
        like = _without_dummies(states, runs, programs)
        checkpoint = checkpointer.restore(like, expected=made_with)
        if checkpoint is not None:
            states, first_step = sharding.place(checkpoint.state, mesh, specs.runs), checkpoint.step
            batches.set_state(checkpoint.iterator_state)
            print(f"Going on from the checkpoint of step {first_step} of {len(batches)}.", flush=True)
        files.trim_metrics(first_step)

        every = config.train.checkpoint_every or epoch_steps
        log = ProgressLog(config, files, _names(programs), task.batch_size, len(batches), epoch_steps, first_step)
        request = processes.SharedRequest()
        with log, Interruption() as interruption:
            for number, batch in enumerate(batches, start=first_step + 1):
                images = sharding.place(batch["image"], mesh, specs.images)
                labels = sharding.place(batch["label"], mesh, specs.labels)
                outputs = [
                    update.step(state, frozen, images, labels, settings, rates)
                    for update, state, (frozen, settings, rates) in zip(updates, states, fixed, strict=True)
                ]
                states, step_metrics = zip(*outputs, strict=True)
                log.add(number, step_metrics)
                requested = request.update(interruption.requested)
                if requested or number % every == 0 or number == len(batches):
                    log.flush()  # raises on a non-finite loss: what is saved is always good
                    kept = _without_dummies(states, runs, programs)
                    checkpointer.save(number, kept, batches.get_state(), made_with)
                if requested:
                    checkpointer.wait()
                    interruption.leave(requested, number, files.path)
    learned = [
        sharding.replicate(state.adapter, mesh, runs.shape(program))
        for state, program in zip(states, programs, strict=True)
    ]
    return collect(config, backbone, task, programs, learned), len(batches)


def collect(
    config: ConfigDict,
    backbone: Backbone,
    task: setup_data.Task,
    programs: Sequence[Program],
    learned: Sequence[Adapter],
) -> Trained:
    """What the run has learned, leaves `[S, V, ...]`, as NumPy arrays with what they belong to."""
    return Trained(
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        image_size=config.image_size,
        dataset=task.data["name"],
        template=task.trained_on.template,
        class_names=task.trained_on.class_names,
        shots=config.data.shots,
        seeds=tuple(config.seeds),
        parts=tuple(
            Part(program.model.structure, program.names, *jax.tree.map(np.asarray, (adapter, program.settings)))
            for program, adapter in zip(programs, learned, strict=True)
        ),
    )


def _names(programs: Sequence[Program]) -> list[str]:
    return [name for program in programs for name in program.names]


def _compile(program: Program, runs: Runs, params: Any, task: setup_data.Task) -> train_program.Compiled:
    compiled = train_program.compile_fitting(program, runs, params, task.trained_on.token_ids)
    if compiled.program.model.class_chunk != program.model.class_chunk:
        chunk = compiled.program.model.class_chunk
        print(f"To fit the device's memory, {chunk} class prompts at a time are trained on.", flush=True)
    return compiled


def _place_fixed(program: Program, params: Any, task: setup_data.Task, runs: Runs) -> tuple[Frozen, Any, Any]:
    """What a program reads and never changes: CLIP with the classes' frozen side, the settings and the rates."""
    prompts = program.model.encode_prompts(params, task.trained_on.token_ids)
    frozen = Frozen(params, sharding.place_prompts(prompts, runs.mesh))
    return frozen, *sharding.place((program.settings, program.rates), runs.mesh, runs.specs.settings)


def _without_dummies(states: States, runs: Runs, programs: Sequence[Program]) -> States:
    """The states of the runs themselves, which a checkpoint holds, so that any layout can go on from it."""
    return tuple(
        state if state.step.shape == runs.shape(program) else sharding.replicate(state, runs.mesh, runs.shape(program))
        for state, program in zip(states, programs, strict=True)
    )


def _describe(config: ConfigDict, backbone: Backbone, task: setup_data.Task, programs: Sequence[Program]) -> None:
    if task.batch_size < config.train.batch_size:
        print(f"All {task.batch_size} training images make one batch: config.train.batch_size is larger.", flush=True)
    names = list(task.classes)
    sizes = ", ".join(f"{len(c.class_names)} {name} classes" for name, c in task.classes.items())
    print(
        f"DeAR on {task.data['name']} ({sizes}), backbone {backbone.name} ({backbone.fingerprint}): "
        f"{len(task.train[0])} images of the {names[0]} classes for each of the seeds "
        f"{', '.join(map(str, config.seeds))}.",
        flush=True,
    )
    variants = _names(programs)
    if len(variants) > 1:
        plural = "1 program" if len(programs) == 1 else f"{len(programs)} programs"
        print(f"{len(variants)} variants in {plural}: {', '.join(variants)}.", flush=True)
    elif config.mask.pattern == "random" and not config.mask.file:
        print("The head mask is random (config.mask.pattern): it knows nothing of what the heads do.", flush=True)


def make_layout(config: ConfigDict, task: setup_data.Task, programs: Sequence[Program]) -> tuple[Mesh, Specs]:
    """The mesh over all devices of all processes, and what goes over which of its axes."""
    variants, classes = [len(program.names) for program in programs], len(task.trained_on.class_names)
    setup.check_mesh(config, len(jax.devices()))
    return sharding.make_layout(len(config.seeds), variants, task.batch_size, classes, shape=config.compute.mesh)


def make_batches(
    config: ConfigDict, backbone: Backbone, task: setup_data.Task, mesh: Mesh, specs: Specs
) -> pipeline.TrainBatches:
    """The batches of the whole run, with the images for this process's devices."""
    return pipeline.train_batches(
        task.train,
        config.seeds,
        batch_size=task.batch_size,
        epochs=config.train.epochs,
        image_size=backbone.config.image_size,
        crop_scale=config.data.crop_scale,
        flip=config.data.flip,
        workers=config.data.workers,
        cache_bytes=int(config.data.cache_gb * 2**30),
        own=sharding.own_entries((len(config.seeds), task.batch_size), mesh, specs.images),
    )
