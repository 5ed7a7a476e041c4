"""What heat maps cost beside a forward pass: CLIP ViT-B/16 with random weights.

    python -m experiments.speed.heat_maps --images=8 --rounds=5

prints the median time of plain CLIP's forward pass over a batch of images, that of the same with the contributions of
all heads and places to one text and to ten, and the same for DeAR (all six paths, an open mask) beside its own forward
pass. Compilation is not counted; rounds take turns.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dear_jax.clip import vision
from dear_jax.clip.checkpoints import weights
from dear_jax.clip.layers import Params
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import Settings, Start
from dear_jax.roles import decompose, places
from dear_jax.setup.methods import dear
from experiments.speed.case import VIT_B16

TEXTS = (1, 10)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    params: Any = jax.device_put(weights.initialize(VIT_B16, seed=0))
    generator = np.random.default_rng(0)
    size = VIT_B16.image_size
    images = jnp.asarray(generator.integers(0, 256, (arguments.images, size, size, 3), np.uint8))
    texts = jnp.asarray(generator.normal(size=(arguments.images, max(TEXTS), VIT_B16.embed_dim)), jnp.float32)
    print(f"{arguments.images} images, median of {arguments.rounds} rounds")
    for title, forward, explain in (("plain CLIP", *plain_calls(params)), ("DeAR", *dear_calls(params))):
        calls = {"forward pass": lambda forward=forward: forward(images)}
        for count in TEXTS:
            calls[f"maps, {count} text{'s' if count > 1 else ''}"] = lambda c=count, e=explain: e(images, texts[:, :c])
        report(title, calls, arguments.rounds)


def plain_calls(params: Params) -> tuple[Callable[..., Array], Callable[..., Any]]:
    """The features of plain CLIP; where its logits come from."""
    forward = jax.jit(lambda params, images: vision.in_groups(lambda x: encode(params, x), images))

    @jax.jit
    def explain(params: Params, images: Array, texts: Array) -> Any:
        read = decompose.plain(params)
        found = places.locate(read, VIT_B16, vision.normalize(images, VIT_B16), texts)
        return places.summarize(found, read, VIT_B16.patches)

    return (lambda images: forward(params, images)), (lambda images, texts: explain(params, images, texts))


def encode(params: Params, images: Array) -> Array:
    """Plain features."""
    return vision.encode(params, VIT_B16, vision.normalize(images, VIT_B16))


def dear_calls(params: Params) -> tuple[Callable[..., Array], Callable[..., Any]]:
    """The features of all paths, plain CLIP's beside them; where their logits come from."""
    method = dear.build(dear.Options(), VIT_B16, jnp.float32)
    adapter = method.init(jax.random.key(0), params, None, Start())
    layers, heads, *_ = method.settings_like().head_mask.shape
    roles = patterns.plain_roles("open", layers, heads, method.attributes)
    head_mask = jnp.asarray(mask.build(roles, method.attributes, 1 + VIT_B16.patches))
    settings = Settings(head_mask, *jnp.full(3, 0.9))

    @jax.jit
    def forward(params: Params, images: Array) -> Array:
        return method.features(adapter, settings, params, method.split.look(params, images))

    @jax.jit
    def explain(params: Params, images: Array, texts: Array) -> Any:
        read = method.read_out(adapter, settings, params)
        found = places.locate(read, VIT_B16, vision.normalize(images, VIT_B16), texts)
        return places.summarize(found, read, VIT_B16.patches)

    return (lambda images: forward(params, images)), (lambda images, texts: explain(params, images, texts))


def report(title: str, calls: dict[str, Callable[[], Any]], rounds: int) -> None:
    """Times in turn, and their ratio to the first's."""
    for call in calls.values():
        jax.block_until_ready(call())
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            seconds[name].append(time.perf_counter() - start)
    first = np.median(next(iter(seconds.values())))
    for name, values in seconds.items():
        print(f"{title}, {name:14} {np.median(values):7.3f} s  {np.median(values) / first:5.2f} times the forward pass")


if __name__ == "__main__":
    main()
