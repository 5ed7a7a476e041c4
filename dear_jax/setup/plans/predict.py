"""The plan of the job `predict`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.files.workdir import RunConfig
from dear_jax.setup import checks, keys, recipes, runs
from dear_jax.setup.plans.explain import MapsPlan, read_maps
from dear_jax.setup.runs import RunChoice


@dataclasses.dataclass(frozen=True)
class PredictionPlan:
    """What the job works by."""

    config: RunConfig
    run: RunChoice
    images: str  # a folder, pattern, file or list
    classes: str  # names, or a file of them; empty: the run's own
    template: str  # empty: the training's
    new_classes: str  # rule of the paths' weights where a class was not trained on
    dtype: str
    matmul_precision: str
    batch_size: int  # images
    workers: int  # processes that prepare images
    exif: bool
    shown: int  # images printed
    explain: bool  # whether maps are made
    maps: MapsPlan

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return "predict"


def make_plan(config: ConfigDict) -> PredictionPlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range.
    """
    config = recipes.resolve(config)
    checks.check(config, trains=False)
    return PredictionPlan(
        config=keys.run_config(config),
        run=runs.read(config),
        images=config.images,
        classes=config.classes,
        template=config.data.template,
        new_classes=config.eval.new_classes,
        dtype=config.compute.dtype,
        matmul_precision=config.compute.matmul_precision,
        batch_size=config.eval.batch_size,
        workers=config.data.workers,
        exif=config.data.exif,
        shown=config.predict.shown,
        explain=config.predict.explain,
        maps=read_maps(config),
    )
