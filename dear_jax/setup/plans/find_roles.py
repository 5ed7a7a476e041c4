"""The plan of the job `find_roles`."""

import dataclasses

from ml_collections import ConfigDict

from dear_jax.files.workdir import RunConfig
from dear_jax.setup import backbones, checks, keys, recipes, roles
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.roles import RolePlan


@dataclasses.dataclass(frozen=True)
class AnalysisPlan:
    """What the job works by."""

    config: RunConfig
    backbone: BackbonePlan
    roles: RolePlan
    first_layer: int | None  # J; None: that of the deeper third
    attributes: tuple[str, ...]  # the core attributes
    top_images: int  # shown per head
    compare: str  # path of another role map; empty: none

    @property
    def label(self) -> str:
        """What a new workdir is called after."""
        return f"find_roles-{self.roles.data.dataset}"


def make_plan(config: ConfigDict) -> AnalysisPlan:
    """The plan of a config.

    Raises:
        UserError: a value out of its range.
    """
    config = recipes.resolve(config)
    checks.check(config, trains=False)
    options = config.roles
    return AnalysisPlan(
        keys.run_config(config),
        backbones.read(config),
        roles.read(config),
        options.first_layer,
        tuple(options.attributes),
        options.top_images,
        options.compare,
    )
