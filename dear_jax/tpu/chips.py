"""TPU chips: published peaks, the shapes in which they come, and devices of them to compile for, without a TPU.

The peaks are those of Google's documentation (cloud.google.com/tpu/docs/v2, ... /v6e and /tpu7x, read in 2026), but for
the links of v4, six of 50 GB/s each way (arXiv 2304.01433, table 4), and of v2 and v3, four of 496 and 656 Gbit/s each
way (Jouppi et al., A Domain-Specific Supercomputer for Training Deep Neural Networks, CACM 2020). The column before the
last is measured: `python -m pytest -m slow tests/jobs/test_compile.py -k large_product`.
"""

import dataclasses
import difflib
import importlib.util
import os
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies

from dear_jax.errors import UserError

# libtpu asks the machine which TPU it has and where its neighbours are. There is none: these keep it from asking, and
# from writing logs. Of a real TPU's environment nothing is changed.
QUIET = {
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server of Google Cloud
    "TPU_ACCELERATOR_TYPE": "v5e-4",  # any that it knows: the topology that is asked for is what counts
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no lock of the machine: several may compile at once
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
_TORUS = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SQUARES = ("2x2", "4x4", "8x8", "8x16", "16x16", "16x32", "32x32")
_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16", "16x16x16")


@dataclasses.dataclass(frozen=True)
class Chip:
    """What JAX sees as one device: a TPU chip, or one of a chip's `devices` with its share of all else.

    Attributes:
        flops: products of bfloat16 with sums in float32, at their peak, per second.
        memory: bytes of HBM.
        bandwidth: of the HBM, bytes per second.
        links: to the other chips of a slice, both directions of all links, bytes per second.
        shapes: slices that can be had.
        cycle_flops: what the compiler's own estimate (libtpu 0.0.42) of a large bfloat16 product (8192^3) comes to,
            FLOPs per cycle: the yardstick for its estimates of other programs.
        devices: that JAX sees in a chip.
        config: libtpu's name of the way in which a chip's cores work together; empty: its default.
    """

    flops: float
    memory: int
    bandwidth: float
    links: float
    shapes: tuple[str, ...]
    cycle_flops: float
    devices: int = 1
    config: str = ""


CHIPS = {
    "v2": Chip(45e12 / 2, 8 * 2**30, 700e9 / 2, 496e9 / 2, _SQUARES[:5], 32_219, devices=2),
    "v3": Chip(123e12 / 2, 16 * 2**30, 900e9 / 2, 656e9 / 2, _SQUARES, 63_497, devices=2),
    "v4": Chip(275e12, 32 * 2**30, 1200e9, 600e9, _CUBES, 243_057, config="megacore"),
    "v5e": Chip(197e12, 16 * 2**30, 819e9, 400e9, _TORUS, 115_044),
    "v5p": Chip(459e12, 95 * 2**30, 2765e9, 1200e9, _CUBES, 236_349),
    "v6e": Chip(918e12, 32 * 2**30, 1638e9, 800e9, _TORUS, 369_231),
    "tpu7x": Chip(2307e12 / 2, 96 * 2**30, 7380e9 / 2, 1200e9 / 2, _CUBES, 422_142, devices=2),
}


CUDA_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def libtpu_without_tpu() -> bool:
    """Whether libtpu is installed where there is neither a TPU nor JAX for CUDA.

    JAX would load it to look for TPUs, and libtpu complain on stderr that there are none.
    """
    installed = importlib.util.find_spec("libtpu") is not None
    accelerators = [*Path("/dev").glob("accel*"), *Path("/dev").glob("vfio/[0-9]*")]
    return installed and not accelerators and not any(map(importlib.util.find_spec, CUDA_PLUGINS))


def find(topology: str) -> Chip:
    """The chip of a topology such as v5e:8x8.

    Raises:
        UserError: no such chip or no such slice of it; those that there are.
    """
    name, _, shape = topology.partition(":")
    if name in CHIPS and shape in CHIPS[name].shapes:
        return CHIPS[name]
    known = [f"{name}:{shape}" for name, chip in CHIPS.items() for shape in chip.shapes]
    nearest = difflib.get_close_matches(topology, known, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    raise UserError(
        f"config.topology is {topology!r}: expected a TPU chip and the shape of a slice, one of "
        f"{', '.join(known)}.{hint}"
    )


def devices(topology: str) -> list[jax.Device]:
    """Devices of a topology, to compile for: nothing can run on them.

    Raises:
        UserError: an unknown topology; libtpu is not installed.
    """
    chip = find(topology)
    if importlib.util.find_spec("libtpu") is None and not os.environ.get("TPU_LIBRARY_PATH"):
        raise UserError(
            "config.job=compile needs libtpu, the compiler of TPUs, which is not installed. It needs no TPU: "
            "pip install -e '.[tpu-compile]' (a download of about 200 MB; Linux on x86-64)."
        )
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    options: dict[str, Any] = {"chips_per_host_bounds": (1, 1, 1)} if topology.endswith(":1x1") else {}
    if chip.config:
        options["chip_config_name"] = chip.config
    description = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    return list(description.devices)
