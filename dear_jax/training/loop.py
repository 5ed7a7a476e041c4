"""The training loop: all programs of a job, from their latest checkpoint on, step by step to what they have learned.

schedule, backbone, task, programs -> layout, batches, compiled steps -> states -> adapters. Read `train` from top to
bottom. Methods without steps are fitted at once (`fit`).
"""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.split import Frozen, Prompts
from dear_jax.data import pipeline
from dear_jax.data.class_set import Task
from dear_jax.errors import count
from dear_jax.files.checkpoint import Checkpointer
from dear_jax.files.workdir import Workdir
from dear_jax.methods import wording
from dear_jax.methods.contract import Adapter, Length, check_classes
from dear_jax.parallel import processes, sharding
from dear_jax.parallel.sharding import Specs
from dear_jax.training import fitting, profile, support
from dear_jax.training import program as programs_of
from dear_jax.training.interruption import Interruption
from dear_jax.training.optimizer import Optimizer
from dear_jax.training.profile import Profile, Span
from dear_jax.training.program import Compiled, Program, Runs
from dear_jax.training.progress import ProgressLog
from dear_jax.training.step import TrainState
from dear_jax.training.support import Supports

SAVES = 20  # of a run, at most, where nothing else is asked for: epochs of few images are short
States = tuple[TrainState, ...]  # one per program, leaves [S, V, ...]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How a job trains, whatever its method: keys of `config.train`, `.data` and `.compute`."""

    seeds: tuple[int, ...]
    epochs: int
    steps: int  # in all, instead of so many epochs; 0: the epochs count
    batch_size: int  # images per seed and step, where there are as many
    optimizer: Optimizer
    log_every: int  # steps
    checkpoint_every: int  # steps; 0: once an epoch, and no more than `SAVES` in a run
    keep_checkpoints: int
    crop_scale: tuple[float, float]  # area share of the random crop
    flip: bool
    workers: int  # processes that prepare images
    cache_gb: float  # GiB of decoded images
    mesh: tuple[int, ...]  # sizes of the axes; empty: chosen
    shard_backbone: bool
    profile: Span | None = None  # steps to trace


def check_task(task: Task, programs: Sequence[Program]) -> None:
    """Refuse class sets that the methods of the programs cannot tell apart.

    Raises:
        UserError: there is one.
    """
    others = {name: class_set.class_names for name, class_set in task.classes.items()}
    for program in programs:
        check_classes(program.method, task.trained_on.class_names, others)


def train(
    schedule: Schedule, files: Workdir, backbone: Backbone, task: Task, programs: Sequence[Program]
) -> tuple[list[Adapter], int]:
    """What each program has learned, NumPy leaves `[S, V, ...]`, going on from the latest checkpoint; and the steps.

    Raises:
        UserError: a step that does not fit the device, a loss that is not finite, a checkpoint of another run.
    """
    supports = support.collect(schedule, backbone, task, programs)
    if not programs[0].method.steps:
        profile.check(schedule.profile, 0)
        return fit(schedule, files, backbone, task, programs, supports), 0
    runs, batches = make_runs(schedule, backbone, task, programs)
    profile.check(schedule.profile, len(batches))
    epoch_steps = runs.length.steps_per_epoch
    params = place_backbone(schedule, backbone, programs, runs.mesh)
    print(f"Compiling the train step for {count(len(task.trained_on.class_names), 'class')} ...", flush=True)
    updates = [_compile(program, runs, params, task) for program in programs]
    fixed = [_place_fixed(update.program, params, task, runs) for update in updates]
    states: States = tuple(
        programs_of.initial_state(program, runs, backbone.params, _of_start(frozen.prompts), own)
        for program, (frozen, _, _), own in zip(programs, fixed, supports, strict=True)
    )

    made_with = {"backbone": backbone.name, "fingerprint": backbone.fingerprint, "reading": backbone.reading}
    mesh, specs = runs.mesh, runs.specs
    with Checkpointer(files.checkpoints, keep=schedule.keep_checkpoints) as checkpointer:
        first_step = 0
        like = _without_dummies(states, runs, programs)
        checkpoint = checkpointer.restore(like, expected=made_with, last=len(batches))
        if checkpoint is not None:
            states, first_step = sharding.place(checkpoint.state, mesh, specs.runs), checkpoint.step
            batches.set_state(checkpoint.iterator_state)
            print(f"Going on from the checkpoint of step {first_step} of {len(batches)}.", flush=True)
        files.trim_metrics(first_step)

        every = steps_between_saves(schedule.checkpoint_every, len(batches), epoch_steps)
        names = [name for program in programs for name in program.names]
        progress = (names, schedule.seeds, task.batch_size, schedule.log_every, len(batches), epoch_steps, first_step)
        log = ProgressLog(files, *progress)
        trace = Profile(schedule.profile, files.path, first_step)
        request = processes.SharedRequest()
        with log, trace.steps(), Interruption() as interruption:
            for number, batch in enumerate(batches, start=first_step + 1):
                trace.before(number)
                images = sharding.place(batch["image"], mesh, specs.images)
                labels = sharding.place(batch["label"], mesh, specs.labels)
                outputs = [
                    update.step(state, frozen, images, labels, settings, rates)
                    for update, state, (frozen, settings, rates) in zip(updates, states, fixed, strict=True)
                ]
                states, step_metrics = zip(*outputs, strict=True)
                trace.after(number, step_metrics)
                log.add(number, step_metrics)
                if number % epoch_steps == 0 or number == len(batches):
                    states = tuple(
                        fitting.review(program, state, runs, backbone.params, own)
                        for program, state, own in zip(programs, states, supports, strict=True)
                    )
                requested = request.update(interruption.requested)
                if requested or number % every == 0 or number == len(batches):
                    log.flush()  # raises on a non-finite loss: what is saved is always good
                    kept = _without_dummies(states, runs, programs)
                    checkpointer.save(number, kept, batches.get_state(), made_with)
                if requested:
                    checkpointer.wait()
                    interruption.leave(requested, number, files.path)
    start = time.perf_counter()
    finished = [_finish(*pair, runs, backbone.params) for pair in zip(programs, states, supports, strict=True)]
    fitting.log(files, len(batches), start, programs, [notes for _, notes in finished])
    return [adapter for adapter, _ in finished], len(batches)


def fit(
    schedule: Schedule,
    files: Workdir,
    backbone: Backbone,
    task: Task,
    programs: Sequence[Program],
    supports: Sequence[Supports],
) -> list[Adapter]:
    """What each program of a method without steps has learned; a second start begins anew."""
    files.trim_metrics(-1)
    start = time.perf_counter()
    finished = [
        fitting.fit_at_once(
            program, schedule.seeds, backbone.params, wording.prompt_ids(program.method, task.trained_on), own
        )
        for program, own in zip(programs, supports, strict=True)
    ]
    fitting.log(files, 0, start, programs, [notes for _, notes in finished])
    return [adapter for adapter, _ in finished]


def steps_between_saves(asked: int, steps: int, epoch_steps: int) -> int:
    """What was asked for; 0: an epoch, or a part of the run's steps that leaves no more than `SAVES` checkpoints."""
    return asked or max(epoch_steps, -(-steps // SAVES))


def make_runs(
    schedule: Schedule, backbone: Backbone, task: Task, programs: Sequence[Program]
) -> tuple[Runs, pipeline.TrainBatches]:
    """Who trains on how much and where: the mesh over all devices of all processes; and the batches of the whole run.

    Raises:
        UserError: `schedule.mesh` does not fit the devices.
    """
    variants, classes = [len(program.names) for program in programs], len(task.trained_on.class_names)
    mesh, specs = sharding.make_layout(
        len(schedule.seeds), variants, task.batch_size, classes, shape=schedule.mesh
    )
    batches = _make_batches(schedule, backbone, task, mesh, specs)
    steps_per_epoch = len(task.train[0]) // task.batch_size
    length = Length(-(-len(batches) // steps_per_epoch), steps_per_epoch, schedule.steps)
    return Runs(schedule.seeds, task.batch_size, length, mesh, specs, schedule.optimizer), batches


def place_backbone(schedule: Schedule, backbone: Backbone, programs: Sequence[Program], mesh: Mesh) -> Any:
    """CLIP's parameters on the devices, in the towers' dtype."""
    params = cast(backbone.params, programs[0].method.split.dtype)
    return sharding.place_backbone(params, mesh, schedule.shard_backbone)


def _make_batches(
    schedule: Schedule, backbone: Backbone, task: Task, mesh: Mesh, specs: Specs
) -> pipeline.TrainBatches:
    """With the images for this process's devices."""
    return pipeline.train_batches(
        task.train,
        schedule.seeds,
        batch_size=task.batch_size,
        epochs=schedule.epochs,
        steps=schedule.steps,
        image_size=backbone.config.image_size,
        crop_scale=schedule.crop_scale,
        flip=schedule.flip,
        workers=schedule.workers,
        cache_bytes=int(schedule.cache_gb * 2**30),
        own=sharding.own_entries((len(schedule.seeds), task.batch_size), mesh, specs.images),
    )


def _of_start(prompts: Prompts) -> Prompts:
    """What a start reads of the prompts, and every process has whole: ids and features."""
    whole: Any = (None, None, None, np.asarray(prompts.features), np.asarray(prompts.ids))
    return Prompts(*whole)


def _compile(program: Program, runs: Runs, params: Any, task: Task) -> Compiled:
    token_ids = wording.prompt_ids(program.method, task.trained_on)
    compiled = programs_of.compile_fitting(program, runs, params, token_ids)
    chunk = compiled.program.method.split.class_chunk
    if chunk != program.method.split.class_chunk:
        print(f"To fit the device's memory, {chunk} class prompts at a time are trained on.", flush=True)
    return compiled


def _place_fixed(program: Program, params: Any, task: Task, runs: Runs) -> tuple[Frozen, Any, Any]:
    """What a program reads and never changes: CLIP with the classes' frozen side, the settings and the rates."""
    prompts = wording.encode(program.method, params, task.trained_on)
    frozen = Frozen(params, sharding.place_prompts(prompts, runs.mesh))
    return frozen, *sharding.place((program.settings, program.rates), runs.mesh, runs.specs.settings)


def _without_dummies(states: States, runs: Runs, programs: Sequence[Program]) -> States:
    """The states of the runs themselves, which a checkpoint holds, so that any layout can go on from it."""
    return tuple(
        state if state.step.shape == runs.shape(program) else sharding.replicate(state, runs.mesh, runs.shape(program))
        for state, program in zip(states, programs, strict=True)
    )


def _finish(
    program: Program, state: TrainState, supports: Supports, runs: Runs, params: Any
) -> tuple[Adapter, fitting.Notes]:
    kept = sharding.replicate((state.adapter, state.carried), runs.mesh, runs.shape(program))
    finished: Adapter = jax.tree.map(np.asarray, jax.vmap(jax.vmap(program.method.finish))(*kept))
    return fitting.fit(program, finished, kept[1], params, supports)
