"""The keys of the linear probe, the group `config.linear_probe` (source: dear_jax/methods/linear_probe.py)."""

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.linear_probe import LinearProbe, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "Linear probe"
OPEN_CLASSES = False  # it knows those that it was fitted to


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys."""

    inverse_l2: float | None = None  # C of scikit-learn, the larger, the weaker; None: chosen on validation images


ARRAYS = ("inverse_l2",)
STRUCTURAL = ()
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "inverse_l2": {"chosen": {}, **{f"c_{c}": {"inverse_l2": float(c)} for c in ("0.001", "0.01", "0.1", "1", "10")}},
}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """The same for all data sets: no steps."""
    return {"train.epochs": 0}


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    valid = options.inverse_l2 is None or options.inverse_l2 > 0
    return {} if valid else {"inverse_l2": "a positive number, or None: chosen on validation images"}


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "LinearProbe":
    """The method on an architecture."""
    from dear_jax.clip.split import plain_split
    from dear_jax.methods.linear_probe import LinearProbe

    return LinearProbe(plain_split(config, dtype, class_chunk))


def settings(options: Options, method: "LinearProbe", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.linear_probe import Settings

    return Settings(jnp.float32(0 if options.inverse_l2 is None else options.inverse_l2))


def start(options: Options) -> None:
    """It starts with its images."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "LinearProbe":
    """The method that an adapter file describes."""
    from dear_jax.methods.linear_probe import LinearProbe

    return LinearProbe.restore(structure, config, dtype)
