"""The plan of the job `retrieve`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.files.workdir import RunConfig
from dear_jax.setup import backbones, checks, data, keys, recipes, runs
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.data import DataPlan
from dear_jax.setup.runs import RunChoice


@dataclasses.dataclass(frozen=True)
class RetrievalPlan:
    """What the job works by."""

    config: RunConfig
    run: RunChoice
    backbone: BackbonePlan  # how its towers compute
    data: DataPlan  # whose test images are ranked, where there are no images of one's own
    images: str  # gallery of one's own
    query_images: str  # queries of one's own
    queries: int  # drawn where none are given, at most half of all
    seed: int  # of that draw
    top: int  # gallery images per query
    shown: int  # queries on the contact sheet
    batch_size: int  # images
    workers: int  # processes that prepare images

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return "retrieve" if self.images else f"retrieve-{self.data.dataset}"


def make_plan(config: ConfigDict) -> RetrievalPlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range.
    """
    config = recipes.resolve(config)
    checks.check(config, trains=False)
    options = config.retrieve
    return RetrievalPlan(
        config=keys.run_config(config),
        run=runs.read(config),
        backbone=backbones.read(config),
        data=data.read(config),
        images=config.images,
        query_images=options.query_images,
        queries=options.queries,
        seed=options.seed,
        top=options.top,
        shown=options.shown,
        batch_size=config.eval.batch_size,
        workers=config.data.workers,
    )
