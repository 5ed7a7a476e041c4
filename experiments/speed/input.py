"""Does the input pipeline keep up with the train step? Images per second of both, on this machine.

    python -m experiments.speed.input --config=configs/base2new.py --photos=500x375
    python -m experiments.speed.input --config=configs/base2new.py:oxford_pets --config.data.root=DATA

takes the config and the flags of `dear_jax.main`. `--photos=WIDTHxHEIGHT` makes JPEG files of that size, 20 classes of
40, and trains on those, for machines without a data set. Prints the pipeline's rate for the first epoch, in
which every image is decoded, and for later ones, which find images in memory up to `data.cache_gb`; and the rate at
which the compiled train step takes images when they are all there.
"""

import dataclasses
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from dear_jax import main as command_line
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.clip.split import Frozen
from dear_jax.data import pipeline
from dear_jax.data.class_set import Task
from dear_jax.parallel import sharding
from dear_jax.report.text_tables import to_markdown
from dear_jax.setup import backbones, data
from dear_jax.setup.plans import train
from dear_jax.setup.plans.train import TrainingPlan
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import RoleMaps
from dear_jax.training import loop
from dear_jax.training import program as programs_of
from dear_jax.training.loop import Schedule
from dear_jax.training.program import Program

SECONDS = 10  # of each measurement
EPOCHS = 1000  # more than the input gives in that time


def main(arguments: Sequence[str]) -> None:
    """Measure, and print a Markdown table."""
    photos = [argument.removeprefix("--photos=") for argument in arguments if argument.startswith("--photos=")]
    rest = [argument for argument in arguments if not argument.startswith("--photos=")]
    with tempfile.TemporaryDirectory() as folder:
        if photos:
            make_photos(Path(folder), *map(int, photos[0].split("x")))
            rest += ["--config.data.source=folder", f"--config.data.root={folder}"]
        print(table(train.make_plan(command_line.parse(rest)[0])))


def make_photos(folder: Path, width: int, height: int, classes: int = 20, per_class: int = 40) -> None:
    """JPEG files of smooth noise, which are about as large as photos are."""
    generator = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class {label}").mkdir()
        for number in range(per_class):
            coarse = generator.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
            image.save(folder / f"class {label}" / f"{number}.jpg", quality=90)


@dataclasses.dataclass(frozen=True)
class Rate:
    """Images in seconds."""

    images: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.images / self.seconds:,.0f}"


def table(plan: TrainingPlan) -> str:
    """The three rates, and what they mean for a run."""
    backbone = backbones.load(plan.backbone)
    task = data.load_task(plan.data, backbone)
    (program,) = make_programs(plan.variants, plan.backbone, backbone.config, RoleMaps(plan.roles, backbone))
    schedule = plan.schedule
    images = len(schedule.seeds) * task.batch_size
    first, later = input_rates(schedule, backbone, task, program)
    step = step_rate(schedule, backbone, task, program)
    rates = {"input, first epoch": first, "input, later epochs": later, "train step, no input": step}
    share = (later.images / later.seconds) / (step.images / step.seconds)
    return "\n".join(
        [
            f"{backbone.name}, {len(schedule.seeds)} seeds x batch {task.batch_size} = {images} images a step, "
            f"{jax.devices()[0].device_kind}, {schedule.workers or pipeline.THREADS} "
            f"{'processes' if schedule.workers else 'threads'} prepare images, cache {schedule.cache_gb} GiB:",
            "",
            to_markdown(["", "images/s"], [[name, str(rate)] for name, rate in rates.items()]),
            "",
            f"In later epochs the input gives {share:.2f} times what the step takes.",
        ]
    )


def input_rates(schedule: Schedule, backbone: Backbone, task: Task, program: Program) -> tuple[Rate, Rate]:
    """Of the first epoch, and of those after it."""
    longer = dataclasses.replace(schedule, epochs=EPOCHS)
    runs, batches = loop.make_runs(longer, backbone, task, [program])
    images = len(runs.seeds) * runs.batch_size
    first = _time(itertools.islice(batches, runs.length.steps_per_epoch), images, seconds=np.inf)
    later = _time(batches, images, SECONDS)
    batches.close()
    return first, later


def step_rate(schedule: Schedule, backbone: Backbone, task: Task, program: Program) -> Rate:
    """Of the compiled train step on one batch over and over."""
    runs, batches = loop.make_runs(schedule, backbone, task, [program])
    batches.close()
    mesh, specs, token_ids = runs.mesh, runs.specs, task.trained_on.token_ids
    params = loop.place_backbone(schedule, backbone, [program], mesh)
    program, update, _ = programs_of.compile_fitting(program, runs, params, token_ids)
    settings, rates = sharding.place((program.settings, program.rates), mesh, specs.settings)
    prompts = program.method.split.encode_prompts(params, token_ids)
    frozen = Frozen(params, sharding.place_prompts(prompts, mesh))
    state = programs_of.initial_state(program, runs, backbone.params, prompts)
    shape, size = (len(runs.seeds), runs.batch_size), backbone.config.image_size
    images = sharding.place(np.zeros((*shape, size, size, 3), np.uint8), mesh, specs.images)
    labels = sharding.place(np.zeros(shape, np.int32), mesh, specs.labels)

    def steps() -> Any:
        nonlocal state
        while True:
            state, _ = update(state, frozen, images, labels, settings, rates)
            jax.block_until_ready(state)
            yield

    endless = steps()
    next(endless)  # warms up
    return _time(endless, shape[0] * shape[1], SECONDS)


def _time(batches: Any, images: int, seconds: float) -> Rate:
    start, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
        if time.perf_counter() - start > seconds:
            break
    return Rate(count * images, time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1:])
