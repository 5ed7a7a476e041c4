"""Job: train DeAR over all seeds and variants of a config, then evaluate it beside zero-shot CLIP.

config -> backbone, programs, task -> batches -> steps -> checkpoints -> adapter file -> accuracies -> results.json and
results.md. Read `run` from top to bottom.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from dear_jax import adapters, class_chunk, evaluate, hosts, setup, setup_data, setup_variants, sharding, step
from dear_jax import optimizer as optimizers
from dear_jax.adapt import tokens
from dear_jax.adapt.model import Model
from dear_jax.adapters import Part, Trained
from dear_jax.checkpoint import Checkpointer
from dear_jax.clip.weights import Backbone, cast
from dear_jax.data import pipeline
from dear_jax.interruption import Interruption
from dear_jax.optimizer import Length
from dear_jax.progress import ProgressLog, log_evaluation
from dear_jax.setup import Program
from dear_jax.step import Frozen, TrainState
from dear_jax.workdir import Workdir

States = tuple[TrainState, ...]  # one per program, leaves [S, V, ...]


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Train, or go on where an earlier start stopped; write and print the results.

    Raises:
        UserError: a bad config value or input file; a non-finite loss.
    """
    setup.check(config)
    with Workdir(workdir) as files:
        config_sha256 = files.check_config(config)
        if evaluate.report_finished(files):
            return
        backbone = setup.load_backbone(config)
        task = setup_data.load_task(config, backbone, files)
        hosts.check_alike(config, task.data, backbone.fingerprint)
        programs = setup.make_programs(setup_variants.variant_configs(config), backbone)
        _describe(config, backbone, task, programs)

        trained, steps = train(config, files, backbone, task, programs)
        files.write_bytes(adapters.NAME, adapters.to_bytes(trained))

        print("Evaluating ...", flush=True)
        accuracies = evaluate.measure(config, backbone, task.classes, trained)
        log_evaluation(files, steps, trained.names, accuracies)
        evaluate.report(evaluate.summarize(config, trained, accuracies, config_sha256, task.data), files)


def train(
    config: ConfigDict, files: Workdir, backbone: Backbone, task: setup_data.Task, programs: Sequence[Program]
) -> tuple[Trained, int]:
    """What is learned, from the latest checkpoint on if there is one; and the number of steps."""
    batches = make_batches(config, backbone, task)
    epoch_steps = len(batches) // config.train.epochs
    mesh = sharding.make_mesh(len(config.seeds), task.batch_size)
    params = sharding.place(cast(backbone.params, programs[0].model.dtype), mesh, sharding.REPLICATED)
    programs = [_fit_memory(config, backbone, program, params, task, mesh) for program in programs]
    fixed = [_place_fixed(program, params, task, mesh) for program in programs]
    updates = [compile_step(program.model, Length(config.train.epochs, epoch_steps), mesh) for program in programs]
    states: States = tuple(initial_state(config.seeds, backbone, program, mesh) for program in programs)

    made_with = {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    with Checkpointer(files.checkpoints, keep=config.train.keep_checkpoints) as checkpointer:
        first_step = 0
        checkpoint = checkpointer.restore(states, expected=made_with)
        if checkpoint is not None:
            states, first_step = checkpoint.state, checkpoint.step
            batches.set_state(checkpoint.iterator_state)
            print(f"Going on from the checkpoint of step {first_step} of {len(batches)}.", flush=True)
        files.trim_metrics(first_step)

        every = config.train.checkpoint_every or epoch_steps
        log = ProgressLog(config, files, _names(programs), task.batch_size, len(batches), epoch_steps, first_step)
        with log, Interruption() as interruption:
            for number, batch in enumerate(batches, start=first_step + 1):
                batch = sharding.place(batch, mesh, sharding.RUN_IMAGES)
                outputs = [
                    update(state, frozen, batch["image"], batch["label"], settings, rates)
                    for update, state, (frozen, settings, rates) in zip(updates, states, fixed, strict=True)
                ]
                states, step_metrics = zip(*outputs, strict=True)
                log.add(number, step_metrics)
                if interruption.requested or number % every == 0 or number == len(batches):
                    log.flush()  # raises on a non-finite loss: what is saved is always good
                    checkpointer.save(number, states, batches.get_state(), made_with)
                if interruption.requested:
                    checkpointer.wait()
                    interruption.leave(number, files.path)
    return collect(config, backbone, task, programs, states), len(batches)


def collect(
    config: ConfigDict, backbone: Backbone, task: setup_data.Task, programs: Sequence[Program], states: States
) -> Trained:
    """What the run has learned, as NumPy arrays with what they belong to."""
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
            Part(program.model.structure, program.names, *jax.tree.map(np.asarray, (state.adapter, program.settings)))
            for program, state in zip(programs, states, strict=True)
        ),
    )


def _names(programs: Sequence[Program]) -> list[str]:
    return [name for program in programs for name in program.names]


def _place_fixed(program: Program, params: Any, task: setup_data.Task, mesh: Mesh) -> tuple[Frozen, Any, Any]:
    """What a program reads and never changes: CLIP with the classes' frozen side, the settings and the rates."""
    frozen = Frozen(params, program.model.encode_prompts(params, task.trained_on.token_ids))
    return frozen, *sharding.place((program.settings, program.rates), mesh, sharding.REPLICATED)


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


def make_batches(config: ConfigDict, backbone: Backbone, task: setup_data.Task) -> pipeline.TrainBatches:
    """The batches of the whole run."""
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
    )


def compile_step(model: Model, length: Length, mesh: Mesh) -> Any:
    """The train step of all runs: state `[S, V]`, images `[S]`, settings `[V]`; the old state's memory is reused."""
    one = functools.partial(step.train_step, model, length)
    runs = step.over_runs(one, seeds=(0, None, 0, 0, None, None), variants=(0, None, None, None, 0, 0))
    return jax.jit(runs, donate_argnums=0, out_shardings=NamedSharding(mesh, sharding.RUNS))


def _fit_memory(
    config: ConfigDict, backbone: Backbone, program: Program, params: Any, task: setup_data.Task, mesh: Mesh
) -> Program:
    """The program, with its class prompts in chunks where its step would not fit the device."""

    def step_bytes(model: Model) -> int:
        return memory_of(lower_step(config, backbone, dataclasses.replace(program, model=model), params, task, mesh))

    classes, length = task.trained_on.token_ids.shape
    runs = -(-len(config.seeds) // mesh.shape["run"]) * len(program.names)
    model = class_chunk.fit(program.model, length, classes, runs, step_bytes)
    if model.class_chunk and not program.model.class_chunk:
        print(f"To fit the device's memory, {model.class_chunk} class prompts at a time are trained on.", flush=True)
    return dataclasses.replace(program, model=model)


def lower_step(
    config: ConfigDict, backbone: Backbone, program: Program, params: Any, task: setup_data.Task, mesh: Mesh
) -> jax.stages.Lowered:
    """The train step of a run, from shapes alone but for the frozen parameters."""
    model = program.model
    prompts = jax.eval_shape(lambda params: model.encode_prompts(params, task.trained_on.token_ids), params)
    size, shape = model.config.image_size, (len(config.seeds), task.batch_size)
    batch = (jax.ShapeDtypeStruct((*shape, size, size, 3), jnp.uint8), jax.ShapeDtypeStruct(shape, jnp.int32))
    return compile_step(model, Length(config.train.epochs, 1), mesh).lower(
        initial_state(config.seeds, backbone, program, mesh),
        sharding.shapes(Frozen(params, prompts), mesh, sharding.REPLICATED),
        *sharding.shapes(batch, mesh, sharding.RUN_IMAGES),
        *sharding.shapes((program.settings, program.rates), mesh, sharding.REPLICATED),
    )


def memory_of(lowered: jax.stages.Lowered) -> int:
    """Bytes of a device that a compiled step takes at its largest, by the compiler's analysis."""
    memory: Any = lowered.compile().memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return int(used - memory.alias_size_in_bytes)


def initial_state(seeds: Sequence[int], backbone: Backbone, program: Program, mesh: Mesh) -> TrainState:
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
    return sharding.place(states(jax.tree.map(stack, *starts)), mesh, sharding.RUNS)
