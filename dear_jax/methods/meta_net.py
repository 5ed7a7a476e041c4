"""A small network of two layers that makes learned tokens of features: `meta_...` in an adapter."""

from collections.abc import Callable

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from dear_jax.methods import initializers
from dear_jax.methods.contract import Adapter


def init(key: PRNGKeyArray, inputs: int, hidden: int, outputs: int) -> Adapter:
    """Both layers as PyTorch starts linear ones.

    Returns:
        meta_kernel_1 `[inputs, hidden]`, meta_bias_1 `[hidden]`, meta_kernel_2 `[hidden, outputs]`, meta_bias_2.
    """
    keys = jax.random.split(key, 4)
    return {
        "meta_kernel_1": initializers.uniform(keys[0], (inputs, hidden), inputs),
        "meta_bias_1": initializers.uniform(keys[1], (hidden,), inputs),
        "meta_kernel_2": initializers.uniform(keys[2], (hidden, outputs), hidden),
        "meta_bias_2": initializers.uniform(keys[3], (outputs,), hidden),
    }


def run(adapter: Adapter, x: Float[Array, "n d"], activation: Callable[[Array], Array]) -> Float[Array, "n outputs"]:
    """Linear, activation, linear."""
    hidden = activation(x @ adapter["meta_kernel_1"] + adapter["meta_bias_1"][None])
    return hidden @ adapter["meta_kernel_2"] + adapter["meta_bias_2"][None]
