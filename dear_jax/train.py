"""Job: train DeAR over all seeds and variants of a config, then evaluate it beside zero-shot CLIP.

config -> backbone, programs, task -> batches -> steps -> checkpoints -> adapter file -> accuracies -> results.json and
results.md. Read `run` from top to bottom.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from dear_jax import (
    adapters,
    class_chunk,
    evaluate,
    hosts,
    processes,
    setup,
    setup_data,
    setup_variants,
    sharding,
    step,
)
from dear_jax import optimizer as optimizers
from dear_jax.adapt import tokens
from dear_jax.adapt.model import Model
from dear_jax.adapt.tokens import Adapter
from dear_jax.adapters import Part, Trained
from dear_jax.checkpoint import Checkpointer
from dear_jax.clip.weights import Backbone, cast
from dear_jax.data import pipeline
from dear_jax.interruption import Interruption
from dear_jax.optimizer import Length
from dear_jax.progress import ProgressLog, log_evaluation
from dear_jax.setup import Program
from dear_jax.sharding import Specs
from dear_jax.step import Frozen, Metrics, TrainState
from dear_jax.workdir import Workdir

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
    params = cast(backbone.params, programs[0].model.dtype)
    params = sharding.place_backbone(params, mesh, config.compute.shard_backbone)
    programs = [_fit_devices(config, backbone, program, params, task, mesh, specs) for program in programs]
    fixed = [_place_fixed(program, params, task, mesh, specs) for program in programs]
    length, runs = Length(config.train.epochs, epoch_steps), [run_shape(config, program) for program in programs]
    updates = [compile_step(p.model, length, mesh, specs, shape) for p, shape in zip(programs, runs, strict=True)]
    states: States = tuple(initial_state(config.seeds, backbone, program, mesh, specs) for program in programs)

    made_with = {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    with Checkpointer(files.checkpoints, keep=config.train.keep_checkpoints) as checkpointer:
        first_step = 0
        like = tuple(_without_dummies(state, mesh, shape) for state, shape in zip(states, runs, strict=True))
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
                    update(state, frozen, images, labels, settings, rates)
                    for update, state, (frozen, settings, rates) in zip(updates, states, fixed, strict=True)
                ]
                states, step_metrics = zip(*outputs, strict=True)
                log.add(number, step_metrics)
                requested = request.update(interruption.requested)
                if requested or number % every == 0 or number == len(batches):
                    log.flush()  # raises on a non-finite loss: what is saved is always good
                    kept = tuple(
                        _without_dummies(state, mesh, shape) for state, shape in zip(states, runs, strict=True)
                    )
                    checkpointer.save(number, kept, batches.get_state(), made_with)
                if requested:
                    checkpointer.wait()
                    interruption.leave(requested, number, files.path)
    learned = [sharding.replicate(state.adapter, mesh, shape) for state, shape in zip(states, runs, strict=True)]
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


def _place_fixed(
    program: Program, params: Any, task: setup_data.Task, mesh: Mesh, specs: Specs
) -> tuple[Frozen, Any, Any]:
    """What a program reads and never changes: CLIP with the classes' frozen side, the settings and the rates."""
    prompts = program.model.encode_prompts(params, task.trained_on.token_ids)
    frozen = Frozen(params, sharding.place_prompts(prompts, mesh))
    return frozen, *sharding.place((program.settings, program.rates), mesh, specs.settings)


def _without_dummies(state: TrainState, mesh: Mesh, shape: tuple[int, int]) -> TrainState:
    """The state of the runs themselves, which a checkpoint holds, so that any layout can go on from it."""
    full = state.step.shape == shape
    return state if full else sharding.replicate(state, mesh, shape)


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


def run_shape(config: ConfigDict, program: Program) -> tuple[int, int]:
    """S and V of a program."""
    return len(config.seeds), len(program.names)


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


def compile_step(model: Model, length: Length, mesh: Mesh, specs: Specs, shape: tuple[int, int]) -> Any:
    """The train step of all runs: state `[S, V]`, images `[S]`, settings `[V]`, all of them filled up.

    The old state's memory is reused. The metrics, of the runs of `shape` [S, V] without the dummies, are everywhere.
    """
    one = functools.partial(step.train_step, model, length)
    runs = step.over_runs(one, seeds=(0, None, 0, 0, None, None), variants=(0, None, None, None, 0, 0))

    def update(*arguments: Any) -> tuple[TrainState, Metrics]:
        state, metrics = runs(*arguments)
        return state, jax.tree.map(lambda leaf: leaf[: shape[0], : shape[1]], metrics)

    placed = (NamedSharding(mesh, specs.runs), NamedSharding(mesh, sharding.REPLICATED))
    return jax.jit(update, donate_argnums=0, out_shardings=placed)


def spread_classes(program: Program, mesh: Mesh) -> Program:
    """The program, with the class prompts of its step spread over "data"."""
    return dataclasses.replace(program, model=dataclasses.replace(program.model, class_shards=mesh.shape["data"]))


def _fit_devices(
    config: ConfigDict,
    backbone: Backbone,
    program: Program,
    params: Any,
    task: setup_data.Task,
    mesh: Mesh,
    specs: Specs,
) -> Program:
    """The program, with its class prompts spread over "data", and in chunks where its step would not fit a device."""

    def step_bytes(model: Model) -> int:
        fitted = dataclasses.replace(program, model=model)
        return memory_of(lower_step(config, backbone, fitted, params, task, mesh, specs))

    program = spread_classes(program, mesh)
    classes, length = task.trained_on.token_ids.shape
    runs = math.prod(sharding.filled(run_shape(config, program), mesh, specs.runs)) // mesh.shape["run"]
    model = class_chunk.fit(program.model, length, -(-classes // mesh.shape["data"]), runs, step_bytes)
    if model.class_chunk and not program.model.class_chunk:
        print(f"To fit the device's memory, {model.class_chunk} class prompts at a time are trained on.", flush=True)
    return dataclasses.replace(program, model=model)


def lower_step(
    config: ConfigDict,
    backbone: Backbone,
    program: Program,
    params: Any,
    task: setup_data.Task,
    mesh: Mesh,
    specs: Specs,
) -> jax.stages.Lowered:
    """The train step of a run, from shapes alone but for the frozen parameters."""
    model = program.model
    prompts = jax.eval_shape(lambda params: model.encode_prompts(params, task.trained_on.token_ids), params)
    size, shape = model.config.image_size, (len(config.seeds), task.batch_size)
    images, labels = jax.ShapeDtypeStruct((*shape, size, size, 3), jnp.uint8), jax.ShapeDtypeStruct(shape, jnp.int32)
    return compile_step(model, Length(config.train.epochs, 1), mesh, specs, run_shape(config, program)).lower(
        initial_state(config.seeds, backbone, program, mesh, specs),
        Frozen(params, sharding.prompt_shapes(prompts, mesh)),
        sharding.shapes(images, mesh, specs.images),
        sharding.shapes(labels, mesh, specs.labels),
        *sharding.shapes((program.settings, program.rates), mesh, specs.settings),
    )


def memory_of(lowered: jax.stages.Lowered) -> int:
    """Bytes of a device that a compiled step takes at its largest, by the compiler's analysis."""
    memory: Any = lowered.compile().memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return int(used - memory.alias_size_in_bytes)


def initial_state(seeds: Sequence[int], backbone: Backbone, program: Program, mesh: Mesh, specs: Specs) -> TrainState:
    """The state before the first step, filled up, on the mesh's devices."""
    return sharding.place(fresh_state(seeds, backbone, program), mesh, specs.runs)


def fresh_state(seeds: Sequence[int], backbone: Backbone, program: Program) -> TrainState:
    """Each seed starts from its own adapter, whatever the other seeds are; its variants as their settings say."""

    def start(seed: int, start: tokens.Start) -> tokens.Adapter:
        model = program.model
        return tokens.initialize(jax.random.key(seed), backbone.params, model.config, model.structure, start)

    def stack(*leaves: jax.Array) -> jax.Array:
        return jnp.stack(leaves).reshape(len(seeds), len(program.starts), *leaves[0].shape)

    starts = [start(seed, variant) for seed in seeds for variant in program.starts]
    # The optimizer's state does not depend on its rates.
    optimizer = optimizers.make(jax.tree.map(lambda leaf: leaf[0], program.rates), Length(1, 1))
    states = step.over_runs(lambda adapter: step.create_state(adapter, optimizer), (0,), (0,))
    state: TrainState = states(jax.tree.map(stack, *starts))
    return state
