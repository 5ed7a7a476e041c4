"""Devices: one mesh with the axes ("run", "data"). Seeds go over "run", images over "data", the backbone everywhere."""

import math
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

REPLICATED = PartitionSpec()
RUNS = PartitionSpec("run")  # leaves [S, ...]
RUN_IMAGES = PartitionSpec("run", "data")  # leaves [S, B, ...]


def make_mesh(seeds: int, batch_size: int, devices: list[jax.Device] | None = None) -> Mesh:
    """As many devices as divide the work evenly: seeds over "run" first, then a batch's images over "data"."""
    devices = jax.devices() if devices is None else devices
    run = math.gcd(seeds, len(devices))
    data = max(n for n in range(1, len(devices) // run + 1) if batch_size % n == 0)
    return Mesh(np.asarray(devices[: run * data]).reshape(run, data), ("run", "data"))


def batch_spec(mesh: Mesh, batch_size: int) -> PartitionSpec:
    """For leaves `[B, ...]` that every seed sees: over "data" where it divides the batch, else everywhere."""
    return PartitionSpec("data") if batch_size % mesh.shape["data"] == 0 else REPLICATED


def shapes(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """The leaves' shapes, dtypes and where they would lie, to compile a program without its data."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def place(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Put every leaf on the mesh's devices."""
    return jax.device_put(tree, NamedSharding(mesh, spec))
