"""The plan of the job `explain`, and of the maps that `predict` makes."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.files.workdir import RunConfig
from dear_jax.setup import backbones, checks, keys, recipes, runs
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.runs import RunChoice


@dataclasses.dataclass(frozen=True)
class MapsPlan:
    """Which maps are made."""

    images: int  # explained at most
    size: int  # pixels of an overlay

    def count(self, images: int) -> int:
        """How many of so many images are explained."""
        return min(self.images, images)


@dataclasses.dataclass(frozen=True)
class ExplanationPlan:
    """What the job works by."""

    config: RunConfig
    run: RunChoice  # none: plain CLIP
    backbone: BackbonePlan  # without a run
    images: str  # a folder, pattern, file or list
    texts: tuple[str, ...]
    new_classes: str  # rule of the paths' weights
    batch_size: int  # images
    workers: int  # processes that prepare images
    exif: bool
    maps: MapsPlan

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return "explain"


def read_maps(config: ConfigDict) -> MapsPlan:
    """The keys of `config.explain`."""
    return MapsPlan(config.explain.images, config.explain.size)


def make_plan(config: ConfigDict) -> ExplanationPlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range.
    """
    config = recipes.resolve(config)
    checks.check(config, trains=False)
    return ExplanationPlan(
        config=keys.run_config(config),
        run=runs.read(config),
        backbone=backbones.read(config),
        images=config.images,
        texts=tuple(text.strip() for text in config.text.split("|")),
        new_classes=config.eval.new_classes,
        batch_size=config.eval.batch_size,
        workers=config.data.workers,
        exif=config.data.exif,
        maps=read_maps(config),
    )
