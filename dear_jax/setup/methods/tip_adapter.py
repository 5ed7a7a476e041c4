"""The keys of Tip-Adapter, the group `config.tip_adapter`, and its published grid (dear_jax/methods/tip_adapter.py)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup import values

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.tip_adapter import Settings, TipAdapter
    from dear_jax.setup.methods import RoleSource

TITLE = "Tip-Adapter"
OPEN_CLASSES = False  # it knows those that it was fitted to


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys; None: as the recipe has it."""

    passes: int = 10  # over the training images with random crops, whose mean features are the keys; 0: one, uncropped
    alpha: float | None = None  # weight of the cache, where it is not chosen
    beta: float = 1.0  # how fast neighbours fade, where it is not chosen
    search: bool = True  # choose alpha and beta on the validation images
    alpha_end: float | None = None  # of the alphas tried, from 0.1 on
    beta_end: float | None = None  # the same of beta


ARRAYS = ("alpha", "beta", "search", "alpha_end", "beta_end")
STRUCTURAL = ("passes",)
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "search": {"searched": {"search": True}, "first": {"search": False}},
    "alpha": {f"alpha_{alpha}": {"search": False, "alpha": float(alpha)} for alpha in ("0", "0.5", "1", "2", "5")},
}
# beta_end, alpha_end, alpha; a data set that the paper does not have takes ImageNet's.
GRIDS = {
    "imagenet": (7.0, 3.0, 1.17),
    "caltech101": (12.0, 5.0, 3.0),
    "dtd": (13.0, 13.0, 2.0),
    "eurosat": (12.0, 10.0, 2.0),
    "fgvc_aircraft": (30.0, 30.0, 5.0),
    "food101": (10.0, 10.0, 1.17),
    "oxford_flowers": (50.0, 50.0, 10.0),
    "oxford_pets": (7.0, 3.0, 1.17),
    "stanford_cars": (20.0, 10.0, 3.0),
    "sun397": (12.0, 10.0, 1.17),
    "ucf101": (7.0, 3.0, 3.0),
}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """No steps; crops of half an image or more."""
    return {"train.epochs": 0} | grid("tip_adapter", dataset)


def grid(name: str, dataset: str) -> dict[str, Any]:
    """The grid's keys in the group of a name."""
    beta_end, alpha_end, alpha = GRIDS.get(dataset, GRIDS["imagenet"])
    return {f"{name}.beta_end": beta_end, f"{name}.alpha_end": alpha_end, f"{name}.alpha": alpha}


def problems(options: Any) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    rules = {
        "passes": (options.passes >= 0, "0 (once, without crops) or more"),
        "alpha": (options.alpha >= 0, "0 or more"),
        "beta": (options.beta >= 0, "0 or more"),
        "alpha_end": (options.alpha_end > 0.1, "more than 0.1, where the search begins"),
        "beta_end": (options.beta_end > 0.1, "more than 0.1, where the search begins"),
    }
    return values.out_of_range(rules)


def remarks(options: Any) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "TipAdapter":
    """The method on an architecture."""
    from dear_jax.clip.split import plain_split
    from dear_jax.methods.tip_adapter import TipAdapter

    return TipAdapter(plain_split(config, dtype, class_chunk), options.passes)


def settings(options: Any, method: Any, roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.tip_adapter import Settings

    values = (options.alpha, options.beta, options.alpha_end, options.beta_end, options.search)
    return Settings(*map(jnp.float32, values))


def start(options: Any) -> None:
    """It starts with its images."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "TipAdapter":
    """The method that an adapter file describes."""
    from dear_jax.methods.tip_adapter import TipAdapter

    return TipAdapter.restore(structure, config, dtype)
