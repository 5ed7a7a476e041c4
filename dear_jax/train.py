"""Job: train DeAR over all seeds of a config in one program, then evaluate it beside zero-shot CLIP.

config -> backbone, task -> batches -> step -> checkpoints -> accuracies -> results.json and results.md. Read `run`
from top to bottom.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from dear_jax import evaluate, setup, setup_data, sharding, step
from dear_jax import optimizer as optimizers
from dear_jax.adapt import tokens
from dear_jax.adapt.model import Model, Settings
from dear_jax.checkpoint import Checkpointer
from dear_jax.clip.weights import Backbone, cast
from dear_jax.data import pipeline
from dear_jax.evaluate import Evaluator
from dear_jax.interruption import Interruption
from dear_jax.progress import VARIANT, ProgressLog, log_evaluation
from dear_jax.step import Frozen, TrainState
from dear_jax.workdir import Workdir


def run(config: ConfigDict, workdir: Path) -> None:
    """Train, or go on where an earlier start stopped; write and print the results.

    Raises:
        UserError: a bad config value or input file; a non-finite loss.
    """
    setup.check(config)
    with Workdir(workdir) as files:
        config_sha256 = files.check_config(config)
        if evaluate.report_finished(files):
            return
        backbone, model = setup.load_model(config)
        task = setup_data.load_task(config, backbone, files)
        settings = setup.stack_settings([setup.make_settings(config, backbone, model)])
        _describe(config, backbone, task)

        mesh = sharding.make_mesh(len(config.seeds), config.train.batch_size)
        params = sharding.place(cast(backbone.params, model.dtype), mesh, sharding.REPLICATED)
        settings = sharding.place(settings, mesh, sharding.REPLICATED)
        state = train(config, files, backbone, model, task, params, settings, mesh)

        print("Evaluating ...", flush=True)
        evaluator = Evaluator(model, params, mesh, config.eval.batch_size, config.data.workers)
        accuracies = {name: evaluator(state.adapter, settings, classes) for name, classes in task.classes.items()}
        log_evaluation(files, int(state.step.ravel()[0]), accuracies)
        results = evaluate.summarize(config, (VARIANT,), accuracies, config_sha256, task.data)
        evaluate.report(results, files)


def train(
    config: ConfigDict,
    files: Workdir,
    backbone: Backbone,
    model: Model,
    task: setup_data.Task,
    params: Any,
    settings: Settings,
    mesh: Mesh,
) -> TrainState:
    """The trained state, leaves `[S, V, ...]`, from the latest checkpoint on if there is one."""
    batches = make_batches(config, model, task)
    epoch_steps = len(batches) // config.train.epochs
    optimizer = make_optimizer(config, epoch_steps)
    frozen = Frozen(params, jax.jit(model.encode_prompts)(params, task.trained_on.token_ids))
    update = compile_step(model, optimizer, mesh)
    state = initial_state(config.seeds, settings.beta.shape[0], backbone, model, optimizer, mesh)

    made_with = {"backbone": backbone.name, "fingerprint": backbone.fingerprint}
    with Checkpointer(files.checkpoints, keep=config.train.keep_checkpoints) as checkpointer:
        first_step = 0
        checkpoint = checkpointer.restore(state, expected=made_with)
        if checkpoint is not None:
            state, first_step = checkpoint.state, checkpoint.step
            batches.set_state(checkpoint.iterator_state)
            print(f"Going on from the checkpoint of step {first_step} of {len(batches)}.", flush=True)
        files.trim_metrics(first_step)

        every = config.train.checkpoint_every or epoch_steps
        log = ProgressLog(config, files, len(batches), epoch_steps, first_step)
        with log, Interruption() as interruption:
            for number, batch in enumerate(batches, start=first_step + 1):
                batch = sharding.place(batch, mesh, sharding.RUN_IMAGES)
                state, step_metrics = update(state, frozen, batch["image"], batch["label"], settings)
                log.add(number, step_metrics)
                if interruption.requested or number % every == 0 or number == len(batches):
                    log.flush()  # raises on a non-finite loss: what is saved is always good
                    checkpointer.save(number, state, batches.get_state(), made_with)
                if interruption.requested:
                    checkpointer.wait()
                    interruption.leave(number, files.path)
    return state


def _describe(config: ConfigDict, backbone: Backbone, task: setup_data.Task) -> None:
    names = list(task.classes)
    sizes = ", ".join(f"{len(c.class_names)} {name} classes" for name, c in task.classes.items())
    print(
        f"DeAR on {task.data['name']} ({sizes}), backbone {backbone.name} ({backbone.fingerprint}): "
        f"{len(task.train[0])} images of the {names[0]} classes for each of the seeds "
        f"{', '.join(map(str, config.seeds))}.",
        flush=True,
    )
    if config.mask.pattern == "random" and not config.mask.file:
        print(
            "The head mask is random (config.mask.pattern): it knows nothing of what the heads do.",
            flush=True,
        )


def make_batches(config: ConfigDict, model: Model, task: setup_data.Task) -> pipeline.TrainBatches:
    """The batches of the whole run."""
    return pipeline.train_batches(
        task.train,
        config.seeds,
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        image_size=model.config.image_size,
        crop_scale=config.data.crop_scale,
        flip=config.data.flip,
        workers=config.data.workers,
        cache_bytes=int(config.data.cache_gb * 2**30),
    )


def make_optimizer(config: ConfigDict, epoch_steps: int) -> optax.GradientTransformation:
    """AdamW at the config's learning rates; `epoch_steps` is the number of steps of an epoch."""
    schedule = optimizers.learning_rate(
        config.optimizer.learning_rate,
        epochs=config.train.epochs,
        steps_per_epoch=epoch_steps,
        warmup_epochs=config.optimizer.warmup_epochs,
        warmup_learning_rate=config.optimizer.warmup_learning_rate,
    )
    return optimizers.make(schedule, config.optimizer.weight_decay)


def compile_step(model: Model, optimizer: optax.GradientTransformation, mesh: Mesh) -> Any:
    """The train step of all runs: state `[S, V]`, images `[S]`, settings `[V]`; the old state's memory is reused."""
    one = functools.partial(step.train_step, model, optimizer)
    runs = step.over_runs(one, seeds=(0, None, 0, 0, None), variants=(0, None, None, None, 0))
    return jax.jit(runs, donate_argnums=0, out_shardings=NamedSharding(mesh, sharding.RUNS))


def initial_state(
    seeds: Sequence[int],
    variants: int,
    backbone: Backbone,
    model: Model,
    optimizer: Any,
    mesh: Mesh,
) -> TrainState:
    """Each seed starts from its own adapter, whatever the other seeds are; its variants start alike."""
    adapters = [
        tokens.initialize(jax.random.key(seed), backbone.params, model.config, model.structure) for seed in seeds
    ]

    def stack(*leaves: jax.Array) -> jax.Array:
        return jnp.stack([jnp.broadcast_to(leaf, (variants, *leaf.shape)) for leaf in leaves])

    states = step.over_runs(lambda adapter: step.create_state(adapter, optimizer), (0,), (0,))
    return sharding.place(states(jax.tree.map(stack, *adapters)), mesh, sharding.RUNS)
