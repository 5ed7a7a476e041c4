"""How many class prompts a training step runs at a time, so that it fits the device (config.compute.class_chunk).

What the backward pass keeps of the text tower grows with the classes. Run in chunks, one after the other, each
forward once more for its gradient, the classes cost the memory of one chunk.
"""

import math
import os
import re
from collections.abc import Callable
from typing import TypeVar

import jax

from dear_jax.errors import UserError

SAFE_SHARE = 0.8  # of the memory that the step may take by the compiler's analysis; the rest is for what it leaves out
Compiled = TypeVar("Compiled")


def fit(
    attempt: Callable[[int], tuple[float, Compiled]], classes: int, available: float, least: int = 1
) -> tuple[int, Compiled]:
    """The largest of C, C/2, C/4, ... classes at a time whose step fits, and that step.

    Args:
        attempt: compiles the step for so many classes at a time (0: all) and says how many bytes of a device it needs.
        classes: C, of one device.
        available: bytes that the step may take.
        least: classes at a time, below which it does not go.

    Returns:
        The classes at a time, 0 for all, and what `attempt` compiled.

    Raises:
        UserError: it does not fit, and smaller chunks do not help.
    """
    chunk, before = classes, math.inf
    needed, compiled = attempt(0)
    while needed > available:
        rest = 2 * needed - before  # what no chunk saves, as half the chunk saves half of what the prompts take
        if chunk <= least or rest > available:
            raise UserError(
                f"A training step needs {_gibibytes(needed)}, even with {chunk} class prompts at a time, and may take "
                f"{_gibibytes(available)} of the device's memory. Make config.train.batch_size smaller, train fewer "
                "seeds (config.seeds) and variants together, or take config.compute.dtype=bfloat16."
            )
        chunk, before = -(-chunk // 2), needed
        needed, compiled = attempt(chunk)
    return 0 if chunk == classes else chunk, compiled


def device_bytes(device: jax.Device) -> int:
    """Memory of a device: what it reports, or its share of the machine's."""
    reported = device.memory_stats() if device.platform != "cpu" else None
    if reported and "bytes_limit" in reported:
        return int(reported["bytes_limit"])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()


def exhausted_bytes(message: str) -> float | None:
    """What a program needs of a device that has less, by a runtime error; None where it is about something else.

    Infinite where the message does not say. Compilers for TPUs refuse such programs, other devices do not run them.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    # "... HLO temporaries (40.00G) exceeds available HBM (15.75G)", or "Used 23.50G of 15.75G hbm"
    found = re.search(r"([\d.]+)([KMGT])\)? (?:exceeds|of)", message)
    return float(found[1]) * 1024 ** " KMGT".index(found[2]) if found else math.inf


def _gibibytes(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB" if math.isfinite(size) else "more than there is"
