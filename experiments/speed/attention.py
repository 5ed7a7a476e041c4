"""Attention by itself: the package's, and `jax.nn.dot_product_attention` by XLA and by cuDNN.

    python -m experiments.speed.attention --images=4 --images=32 --dtype=bfloat16

Shapes are those of the adapted layers of ViT-B/16: 197 rows of an image, and with a mask for each head five attribute
tokens more. Forward pass, and with the backward pass, in turns; times are over the package's. cuDNN takes bfloat16 on
NVIDIA GPUs alone, and what it refuses is said.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dear_jax.clip.layers import attention
from experiments.speed import arguments
from experiments.speed.case import VIT_B16
from experiments.speed.worker import clock

ROWS, TOKENS = 197, 5
OWN = "package"


def main() -> None:
    """Print a line for each size, mask and pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", action="append", type=int, required=True)
    parser.add_argument("--dtype", action="append", choices=arguments.DTYPES, help="bfloat16 if none is given")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=20, help="that follow one another in a round")
    parser.add_argument("--json", type=Path, help="append a line of JSON per line")
    options = parser.parse_args()
    for images in options.images:
        for dtype in options.dtype or ["bfloat16"]:
            for masked in (False, True):
                for backward in (False, True):
                    result = measure(images, dtype, masked, backward, options.rounds, options.calls)
                    print(describe(result), flush=True)
                    arguments.keep(result, options.json)


def measure(images: int, dtype: str, masked: bool, backward: bool, rounds: int, calls: int) -> dict[str, Any]:
    """Median seconds of a call by each implementation, and why one has none."""
    heads, rows = VIT_B16.vision.heads, ROWS + TOKENS * masked
    drawn = np.random.default_rng(0)
    size = (images, rows, heads, VIT_B16.vision.width // heads)
    inputs = [jnp.asarray(drawn.standard_normal(size, np.float32)).astype(dtype) for _ in range(3)]
    mask = jnp.asarray(drawn.random((heads, rows, rows)) < 0.9).at[:, :, 0].set(True) if masked else None
    ready: dict[str, Callable[[], Any]] = {}
    refused = {}
    for name, function in implementations(mask).items():
        try:
            ready[name] = prepare(function, inputs, backward)
        except Exception as error:  # whatever the library says of what it cannot do
            refused[name] = " ".join(str(error).split())[:200] or type(error).__name__
    spent: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(rounds):
        for name, call in ready.items():

            def repeat(call: Callable[[], Any] = call) -> None:
                jax.block_until_ready([call() for _ in range(calls)][-1])

            spent[name].append(clock(repeat, calls)["seconds"])
    return {
        "device": jax.devices()[0].device_kind,
        **{"images": images, "dtype": dtype, "masked": masked, "backward": backward},
        "seconds": {name: float(np.median(values)) for name, values in spent.items()},
        "refused": refused,
    }


def implementations(mask: jax.Array | None) -> dict[str, Callable[..., jax.Array]]:
    """Functions of queries, keys and values `[B, T, H, Dh]`, by name."""

    def package(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        return attention(query, key, value, mask)[0]

    of_jax = {
        name: functools.partial(
            jax.nn.dot_product_attention, mask=None if mask is None else mask[None], implementation=name
        )
        for name in ("xla", "cudnn")
    }
    return {OWN: package, **of_jax}


def prepare(function: Callable[..., jax.Array], inputs: list[jax.Array], backward: bool) -> Callable[[], Any]:
    """A compiled call, which has run once."""

    def loss(*inputs: jax.Array) -> jax.Array:
        return function(*inputs).astype(jnp.float32).sum()

    called = jax.jit(jax.grad(loss, argnums=(0, 1, 2)) if backward else function)
    jax.block_until_ready(called(*inputs))
    return lambda: called(*inputs)


def describe(result: dict[str, Any]) -> str:
    """A measurement in a line."""
    own = result["seconds"][OWN]
    what = f"{'masked' if result['masked'] else 'plain'}, {'forward and backward' if result['backward'] else 'forward'}"
    text = f"{result['images']} images, {result['dtype']}, {what}: {1000 * own:.3f} ms"
    text += "".join(f"; {name} {taken / own:.2f}" for name, taken in result["seconds"].items() if name != OWN)
    return text + "".join(f"; no {name}: {why}" for name, why in result["refused"].items())


if __name__ == "__main__":
    main()
