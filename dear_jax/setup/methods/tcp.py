"""The keys of TCP, the group `config.tcp`, and its published recipe (see dear_jax/methods/tcp.py for the source)."""

import dataclasses
from typing import TYPE_CHECKING, Any

from dear_jax.setup import values
from dear_jax.setup.methods import context, layers

if TYPE_CHECKING:
    from dear_jax.clip.config import CLIPConfig
    from dear_jax.methods.tcp import TCP, Settings
    from dear_jax.setup.methods import RoleSource

TITLE = "TCP"


@dataclasses.dataclass(frozen=True)
class Options:
    """All keys. Prompts are the method's own by data set, whatever config.data.template says."""

    tokens: int = 4  # in the places of words, and of each class from the layer on
    layer: int | None = None  # of the text tower, before which each class has its own; None: 2/3 of all + 1, 9 of 12
    reg: float = 8.0  # weight of the text features' distance to plain CLIP


ARRAYS = ("reg",)
STRUCTURAL = ("tokens", "layer")
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "reg": {f"reg_{weight}": {"reg": float(weight)} for weight in ("0", "2", "4", "8", "16")},
}


def recipe(protocol: str, dataset: str, shots: int) -> dict[str, Any]:
    """Adam with a large epsilon, the same for every protocol and data set."""
    return {
        "optimizer.name": "adam",
        "optimizer.learning_rate": 2e-3,
        "optimizer.epsilon": 1e-3,
        "train.batch_size": 32,
        "train.epochs": 50,
        "data.crop_scale": (0.08, 1.0),
    }


def problems(options: Options) -> dict[str, str]:
    """What is out of its range: key -> what is expected."""
    rules = {"tokens": (options.tokens >= 1, "1 or more"), "reg": (options.reg >= 0, "0 or more")}
    return values.out_of_range(rules)


def remarks(options: Options) -> list[str]:
    """What a user should be told before a run with these options."""
    return []


def build(options: Options, config: "CLIPConfig", dtype: Any, class_chunk: int = 0) -> "TCP":
    """The method on an architecture.

    Raises:
        UserError: a layer that the text tower does not have, or more tokens than it has room for.
    """
    from dear_jax.methods.tcp import TCP

    depth = config.text.layers
    layer = layers.check("tcp.layer", options.layer, depth, 2 * depth // 3 + 1)
    return TCP(context.split("tcp", options.tokens, config, dtype, class_chunk), options.tokens, layer)


def settings(options: Options, method: "TCP", roles: "RoleSource") -> "Settings":
    """The settings of one variant."""
    import jax.numpy as jnp

    from dear_jax.methods.tcp import Settings

    return Settings(jnp.float32(options.reg))


def start(options: Options) -> None:
    """Its adapters start as their seeds say."""


def restore(structure: Any, config: "CLIPConfig", dtype: Any) -> "TCP":
    """The method that an adapter file describes."""
    from dear_jax.methods.tcp import TCP

    return TCP.restore(structure, config, dtype)
