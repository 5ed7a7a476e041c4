"""Why the results of a run do not stand beside published ones, although its images and splits are the published ones.

Published tables have one backbone, three seeds, 16 shots (but in few-shot classification) and a method's own recipe.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from dear_jax.data.protocols import PROTOCOLS
from dear_jax.setup import recipes, values

if TYPE_CHECKING:
    from dear_jax.clip.checkpoints.weights import Backbone

BACKBONE = "clip-vit-base-patch16"
SEEDS = (1, 2, 3)
SHOTS = 16


def is_published(name: str) -> bool:
    """Whether a backbone's name, or the path of its folder, is that of published tables."""
    return name.rstrip("/").rsplit("/", 1)[-1] == BACKBONE


def of_backbone(backbone: "Backbone") -> list[str]:
    """Another CLIP than that of published tables."""
    return [] if is_published(backbone.name) else [f"the backbone is {backbone.name}, published openai/{BACKBONE}"]


def of_draws(protocol: str, shots: int, seeds: Sequence[int]) -> list[str]:
    """Other shots or seeds."""
    found = []
    if shots != SHOTS and not PROTOCOLS[protocol].shots:
        found.append(f"shots are {shots}, published {SHOTS}")
    if tuple(seeds) != SEEDS:
        found.append(f"seeds are {', '.join(map(str, seeds))}, published {', '.join(map(str, SEEDS))}")
    return found


def of_listed_draws(data: Mapping[str, Any]) -> list[str]:
    """Draws from a file that are not those of the seeds."""
    if data.get("shots_file", {}).get("drawn_by_seed", True):
        return []
    return ["the training images are those of config.data.shots_file, not those that CoOp's tools draw"]


def of_training(config: ConfigDict) -> list[str]:
    """Another training than the method's recipe; of a resolved config."""
    recipe = recipes.of(config.method, config.protocol, config.data.dataset, config.data.shots)
    recipe.pop(recipes.REMARK, None)
    given = values.flat_values(config)
    found = [
        f"{key} is {values.plain(given[key])}, the recipe's {values.plain(value)}"
        for key, value in recipe.items()
        if values.plain(given[key]) != values.plain(value)
    ]
    return of_draws(config.protocol, config.data.shots, config.seeds) + found


def note(data: Mapping[str, Any], reasons: Sequence[str]) -> dict[str, Any]:
    """The notes on the data of a run, and on its further data sets, that no longer call its results comparable."""
    noted = dict(data)
    if "targets" in data:
        noted["targets"] = {name: note(target, reasons) for name, target in data["targets"].items()}
    if data["comparable"] and reasons:
        why = f"Not comparable with published tables: {'; '.join(reasons)}."
        noted |= {"comparable": False, "remark": " ".join(filter(None, [why, data["remark"]]))}
    return noted
