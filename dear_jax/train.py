"""Job: train DeAR over all seeds of a config in one program, then evaluate it beside zero-shot CLIP.

config -> backbone, task -> batches -> step -> checkpoints -> accuracies -> results.json and results.md. Read `run`
from top to bottom.
"""

import functools
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict
from tqdm import tqdm

from dear_jax import evaluate, setup, sharding, step
from dear_jax import optimizer as optimizers
from dear_jax.adapt import tokens
from dear_jax.adapt.model import Model, Settings
from dear_jax.checkpoint import Checkpointer
from dear_jax.clip.weights import Backbone, cast
from dear_jax.data import pipeline
from dear_jax.errors import UserError
from dear_jax.evaluate import Evaluator
from dear_jax.step import Frozen, Metrics, TrainState
from dear_jax.workdir import Workdir

VARIANT = "default"  # the name of the one variant of a plain run


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
        task = setup.load_task(config, backbone)
        settings = setup.stack_settings([setup.make_settings(config, backbone, model)])
        _describe(config, backbone, task)

        mesh = sharding.make_mesh(len(config.seeds), config.train.batch_size)
        params = sharding.place(cast(backbone.params, model.dtype), mesh, sharding.REPLICATED)
        settings = sharding.place(settings, mesh, sharding.REPLICATED)
        state = train(config, files, backbone, model, task, params, settings, mesh)

        print("Evaluating ...", flush=True)
        evaluator = Evaluator(model, params, mesh, config.eval.batch_size, config.data.workers)
        accuracies = {name: evaluator(state.adapter, settings, classes) for name, classes in task.classes.items()}
        results = evaluate.summarize(config, (VARIANT,), accuracies, config_sha256)
        evaluate.report(results, files)


def train(
    config: ConfigDict,
    files: Workdir,
    backbone: Backbone,
    model: Model,
    task: setup.Task,
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
        log = _Log(config, files, len(batches), epoch_steps, first_step)
        with log, _Interruption() as interruption:
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


def _describe(config: ConfigDict, backbone: Backbone, task: setup.Task) -> None:
    names = list(task.classes)
    sizes = ", ".join(f"{len(c.class_names)} {name} classes" for name, c in task.classes.items())
    print(
        f"DeAR on {config.data.dataset} ({sizes}), backbone {backbone.name} ({backbone.fingerprint}): "
        f"{len(task.train[0])} images of the {names[0]} classes for each of the seeds "
        f"{', '.join(map(str, config.seeds))}.",
        flush=True,
    )
    if config.mask.pattern == "random" and not config.mask.file:
        print(
            "The head mask is random (config.mask.pattern): it knows nothing of what the heads do.",
            flush=True,
        )


def make_batches(config: ConfigDict, model: Model, task: setup.Task) -> pipeline.TrainBatches:
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


class _Log:
    """Progress on screen and in metrics.jsonl. Values are read one step late, so that the device never waits."""

    def __init__(self, config: ConfigDict, files: Workdir, steps: int, epoch_steps: int, first_step: int):
        self.seeds, self.every = config.seeds, config.train.log_every
        self.images_per_step = len(config.seeds) * config.train.batch_size
        self.files, self.epoch_steps, self.first_step = files, epoch_steps, first_step
        self._pending: tuple[int, Metrics] | None = None
        self._rows: list[dict[str, np.ndarray]] = []
        self._row_start = self._start = time.perf_counter()
        self._bar = tqdm(total=steps, initial=first_step, desc="Training", unit="step", mininterval=1.0)

    def __enter__(self) -> "_Log":
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.close()

    def add(self, number: int, step_metrics: Metrics) -> None:
        """Take the metrics `[S, V]` of step `number`; record those of the step before."""
        previous, self._pending = self._pending, (number, step_metrics)
        if previous is not None:
            self._record(*previous)

    def flush(self) -> None:
        """Wait for the last step and write its row."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._record(*pending)
            self._write(pending[0])

    def _record(self, number: int, step_metrics: Metrics) -> None:
        values = {name: np.asarray(value) for name, value in step_metrics._asdict().items()}
        _check_finite(number, values, self.seeds)
        self._rows.append(values)
        self._bar.update()
        self._bar.set_postfix(
            loss=f"{values['loss'].mean():.3f}",
            accuracy=f"{np.mean([row['accuracy'].mean() for row in self._rows]):.2f}",
            images_per_s=f"{self._rate():.0f}",
            refresh=False,
        )
        if number % self.every == 0:
            self._write(number)

    def _rate(self) -> float:
        """Images of all seeds per second since the last row."""
        return len(self._rows) * self.images_per_step / (time.perf_counter() - self._row_start)

    def _write(self, number: int) -> None:
        """A row of means since the last row, per variant a list over seeds."""
        if not self._rows:
            return
        row: dict[str, Any] = {
            "step": number,
            "epoch": round(number / self.epoch_steps, 4),
            "seconds": round(time.perf_counter() - self._start, 3),
            "images_per_second": round(self._rate(), 1),
        }
        for name in self._rows[0]:
            mean = np.mean([values[name] for values in self._rows], axis=0)
            row[name] = {VARIANT: [round(float(value), 6) for value in mean[:, 0]]}
        self.files.append_metrics(row)
        self._rows, self._row_start = [], time.perf_counter()


def _check_finite(number: int, values: dict[str, np.ndarray], seeds: Sequence[int]) -> None:
    bad = ~(np.isfinite(values["loss"]) & np.isfinite(values["gradient_norm"]))
    if bad.any():
        index = int(np.argwhere(bad)[0][0])
        raise UserError(
            f"Step {number}, seed {seeds[index]}: the loss is {values['loss'][index].ravel()[0]} and the gradient norm "
            f"{values['gradient_norm'][index].ravel()[0]}. The run stops; its last checkpoint is good. Lower "
            "config.optimizer.learning_rate or the loss weights, or look for bad images."
        )


class _Interruption:
    """Turns SIGTERM and Ctrl-C into a request that the loop can answer between two steps."""

    def __init__(self) -> None:
        self.requested = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "_Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.requested:  # asked twice: at once
            raise KeyboardInterrupt
        self.requested = number

    def leave(self, step_number: int, workdir: Path) -> None:
        """Exit with the shell's code of the signal."""
        name = signal.Signals(self.requested).name
        print(f"\n{name}: saved step {step_number}. The same config with --workdir={workdir} goes on from here.")
        raise SystemExit(128 + self.requested)
