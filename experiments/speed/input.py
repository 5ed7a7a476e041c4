"""Does the input pipeline keep up with the train step? Images per second of both, on this machine.

    python experiments/speed/input.py --config=configs/base2new.py --photos=500x375
    python experiments/speed/input.py --config=configs/base2new.py:oxford_pets --config.data.root=DATA

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
from ml_collections import ConfigDict
from PIL import Image

from dear_jax import main as command_line
from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.data import pipeline
from dear_jax.jobs import train
from dear_jax.parallel import sharding
from dear_jax.setup import data as setup_data
from dear_jax.setup import programs as setup
from dear_jax.setup import variants as setup_variants
from dear_jax.training import program as train_program
from dear_jax.training.optimizer import Length
from dear_jax.training.program import Runs
from dear_jax.training.step import Frozen

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
        config = command_line.parse(rest)[0]
        print(table(config))


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


def table(config: ConfigDict) -> str:
    """The three rates, and what they mean for a run."""
    backbone = setup.load_backbone(config)
    task = setup_data.load_task(config, backbone)
    images = len(config.seeds) * task.batch_size
    first, later = input_rates(config, backbone, task)
    step = step_rate(config, backbone, task)
    share = (later.images / later.seconds) / (step.images / step.seconds)
    return "\n".join(
        [
            f"{backbone.name}, {len(config.seeds)} seeds x batch {task.batch_size} = {images} images a step, "
            f"{jax.devices()[0].device_kind}, {config.data.workers or pipeline.THREADS} "
            f"{'processes' if config.data.workers else 'threads'} prepare images, cache {config.data.cache_gb} GiB:",
            "",
            "| | images/s |",
            "| --- | ---: |",
            f"| input, first epoch | {first} |",
            f"| input, later epochs | {later} |",
            f"| train step, no input | {step} |",
            "",
            f"In later epochs the input gives {share:.2f} times what the step takes.",
        ]
    )


def input_rates(config: ConfigDict, backbone: Backbone, task: setup_data.Task) -> tuple[Rate, Rate]:
    """Of the first epoch, and of those after it."""
    longer = config.copy_and_resolve_references()
    longer.train.epochs = EPOCHS
    mesh, specs = sharding.make_layout(len(config.seeds), [1], task.batch_size, len(task.trained_on.class_names))
    batches = train.make_batches(longer, backbone, task, mesh, specs)
    images = len(config.seeds) * task.batch_size
    first = _time(itertools.islice(batches, len(batches) // EPOCHS), images, seconds=np.inf)
    later = _time(batches, images, SECONDS)
    batches.close()
    return first, later


def step_rate(config: ConfigDict, backbone: Backbone, task: setup_data.Task) -> Rate:
    """Of the compiled train step on one batch over and over, after its compilation."""
    (program,) = setup.make_programs(setup_variants.variant_configs(config), backbone)
    model = program.model
    mesh, specs = train.make_layout(config, task, [program])
    runs = Runs(tuple(config.seeds), task.batch_size, Length(1, 1), mesh, specs)
    params = sharding.place(cast(backbone.params, model.dtype), mesh, sharding.REPLICATED)
    settings, rates = sharding.place((program.settings, program.rates), mesh, specs.settings)
    frozen = Frozen(params, model.encode_prompts(params, task.trained_on.token_ids))
    update = train_program.make_step(model, runs, runs.shape(program))
    state = train_program.initial_state(program, runs, backbone.params)
    shape = (len(config.seeds), task.batch_size)
    images = np.zeros((*shape, model.config.image_size, model.config.image_size, 3), np.uint8)
    images = sharding.place(images, mesh, specs.images)
    labels = sharding.place(np.zeros(shape, np.int32), mesh, specs.labels)

    def steps() -> Any:
        nonlocal state
        while True:
            state, _ = update(state, frozen, images, labels, settings, rates)
            jax.block_until_ready(state)
            yield

    runs = steps()
    next(runs)  # compiles
    return _time(runs, shape[0] * shape[1], SECONDS)


def _time(batches: Any, images: int, seconds: float) -> Rate:
    start, count = time.perf_counter(), 0
    for _ in batches:
        count += 1
        if time.perf_counter() - start > seconds:
            break
    return Rate(count * images, time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1:])
