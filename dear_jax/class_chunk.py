"""How many class prompts a training step runs at a time, so that it fits the device (config.compute.class_chunk).

What the backward pass keeps of the text tower grows with the classes. Run in chunks, one after the other, each
forward once more for its gradient, the classes cost the memory of one chunk.
"""

import dataclasses
import os
from collections.abc import Callable

import jax

from dear_jax.adapt.model import Model
from dear_jax.errors import UserError

SAFE_SHARE = 0.8  # of the memory that the step may take by the compiler's analysis; the rest is for what it leaves out
SMALL_SHARE = 0.25  # of the memory: less than this by the estimate needs no analysis
SAVED_WIDTHS, TRANSIENT_WIDTHS = 9, 20  # numbers that a layer keeps of a row, and that one layer works with, per width


def fit(model: Model, prompt_length: int, classes: int, runs: int, step_bytes: Callable[[Model], int]) -> Model:
    """The model with a class chunk for which the step fits this process's devices.

    Args:
        model: returned as it is where its `class_chunk` is set.
        prompt_length: of the longest prompt, in tokens.
        classes: C.
        runs: seeds x variants that train together on one device.
        step_bytes: the memory of the compiled step of a model; called only where memory may not do.

    Raises:
        UserError: not even one class at a time fits.
    """
    available = device_bytes(jax.local_devices()[0])
    if model.class_chunk or estimate(model, prompt_length, classes, runs) < SMALL_SHARE * available:
        return model
    chunk = choose(
        classes, lambda chunk: step_bytes(dataclasses.replace(model, class_chunk=chunk)), int(SAFE_SHARE * available)
    )
    return dataclasses.replace(model, class_chunk=chunk)


def choose(classes: int, bytes_needed: Callable[[int], int], available: int) -> int:
    """The largest of C, C/2, C/4, ... classes at a time whose step fits into `available` bytes; 0 for all of them.

    Args:
        classes: C.
        bytes_needed: of the step, given the classes at a time; 0: all.
        available: bytes that the step may take.

    Raises:
        UserError: not even one class at a time fits.
    """
    chunk, needed = classes, bytes_needed(0)
    while needed > available:
        if chunk == 1:
            raise UserError(
                f"A training step needs {needed / 2**30:.1f} GiB, even with the class prompts one at a time, and the "
                f"device offers {available / 2**30:.1f} GiB. Make config.train.batch_size smaller, or train fewer "
                "seeds and variants together."
            )
        chunk = -(-chunk // 2)
        needed = bytes_needed(chunk)
    return 0 if chunk == classes else chunk


def estimate(model: Model, prompt_length: int, classes: int, runs: int) -> int:
    """Bytes that the text suffix of a step keeps, at most: as if all prompts were the longest and shared nothing."""
    tower = model.config.text
    layers = tower.layers - model.structure.text_layer + 1
    numbers = (SAVED_WIDTHS * layers + TRANSIENT_WIDTHS) * tower.width
    return runs * classes * prompt_length * numbers * 4


def device_bytes(device: jax.Device) -> int:
    """Memory of a device: what it reports, or the machine's."""
    reported = device.memory_stats() if device.platform != "cpu" else None
    if reported and "bytes_limit" in reported:
        return int(reported["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
