"""How learned arrays start where a method's official code leaves it to PyTorch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def uniform(key: PRNGKeyArray, shape: tuple[int, ...], fan_in: int) -> Float[Array, "*shape"]:
    """Uniform within +-1/sqrt(fan_in), `torch.nn.Linear`'s default for weight and bias."""
    bound = fan_in**-0.5
    return jax.random.uniform(key, shape, jnp.float32, -bound, bound)


def normal(key: PRNGKeyArray, shape: tuple[int, ...], std: float) -> Float[Array, "*shape"]:
    """Normal with mean 0."""
    return std * jax.random.normal(key, shape, jnp.float32)
