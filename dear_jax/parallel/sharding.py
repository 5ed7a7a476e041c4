"""Devices: one mesh with the axes ("run", "data") over all devices of all processes.

Runs (seeds or variants) go over "run", images and class prompts over "data"; the backbone is everywhere, or its larger
matrices go over "data". What does not divide evenly is filled up with copies of its last entry: dummy runs that are
dropped at the end, and images and prompts whose features the step drops before anything is computed from them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dear_jax.errors import UserError

REPLICATED = PartitionSpec()
RUNS = PartitionSpec("run")  # leaves [S, ...]
RUN_IMAGES = PartitionSpec("run", "data")  # leaves [S, B, ...]
DATA = PartitionSpec("data")  # leaves [B, ...] or [C, ...]
SHARDED_SIZE = 1 << 18  # elements from which on a parameter of the backbone counts as a larger matrix


class Specs(NamedTuple):
    """Which axes of a training step's arrays go over which of the mesh's."""

    runs: PartitionSpec  # state, leaves [S, V, ...]
    images: PartitionSpec  # [S, B, ...]
    labels: PartitionSpec  # [S, B]; all of a run's labels are wherever the run is
    settings: PartitionSpec  # leaves [V, ...]


BY_SEED = Specs(RUNS, RUN_IMAGES, RUNS, REPLICATED)
BY_VARIANT = Specs(PartitionSpec(None, "run"), PartitionSpec(None, "data"), REPLICATED, RUNS)


def make_layout(
    seeds: int,
    variants: Sequence[int],
    batch_size: int,
    classes: int,
    devices: Sequence[jax.Device] | None = None,
    shape: Sequence[int] = (),
) -> tuple[Mesh, Specs]:
    """The mesh over all devices, and the axis over "run", that leave the least work to each device.

    Args:
        seeds: S.
        variants: V of each program.
        batch_size: B, images per seed.
        classes: C, whose prompts each run encodes.
        devices: all of all processes if None.
        shape: sizes of "run" and "data" whose product is the number of devices; empty: chosen.

    Raises:
        UserError: `shape` (config.compute.mesh) does not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    _check_shape(shape, len(devices))

    def work(choice: tuple[int, Specs]) -> float:
        run, specs = choice
        data = len(devices) // run
        runs = -(-seeds // run) * sum(variants) if specs is BY_SEED else seeds * sum(-(-v // run) for v in variants)
        return runs * (-(-batch_size // data) / batch_size + -(-classes // data) / classes)

    sizes = [shape[0]] if shape else [n for n in range(len(devices), 0, -1) if len(devices) % n == 0]
    # The first of equals: what is spread over "run" needs no communication.
    run, specs = min(((run, specs) for specs in (BY_SEED, BY_VARIANT) for run in sizes), key=work)
    return Mesh(np.asarray(devices).reshape(run, -1), ("run", "data")), specs


def _check_shape(shape: Sequence[int], devices: int) -> None:
    if shape and not (len(shape) == 2 and min(shape) >= 1 and shape[0] * shape[1] == devices):
        fitting = [(run, devices // run) for run in range(1, devices + 1) if devices % run == 0]
        raise UserError(
            f"config.compute.mesh is {tuple(shape)}, expected the sizes of the axes run and data, whose product is the "
            f"{devices} device{'s' * (devices > 1)} of this job: one of {', '.join(map(str, fitting))}, or () to have "
            "it chosen."
        )


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """All devices over "data", for what sees each image once, whatever the number of runs."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices).reshape(1, -1), ("run", "data"))


def filled(shape: Sequence[int], mesh: Mesh, spec: PartitionSpec) -> tuple[int, ...]:
    """The shape with every axis that is spread over devices filled up to a multiple of their number."""
    parts = [mesh.shape[name] if name else 1 for name in spec] + [1] * (len(shape) - len(spec))
    return tuple(-(-size // part) * part for size, part in zip(shape, parts, strict=True))


def fill(array: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """The array in its filled shape, by copies of the last entry of each axis."""
    missing = [(0, new - old) for new, old in zip(filled(array.shape, mesh, spec), array.shape, strict=True)]
    return np.pad(np.asarray(array), missing, mode="edge") if any(more for _, more in missing) else array


def shapes(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """The leaves' filled shapes, dtypes and where they would lie, to compile a program without its data."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(filled(leaf.shape, mesh, spec), leaf.dtype, sharding=sharding), tree
    )


def place(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Fill up every leaf, which each process has whole, and put it on the mesh's devices."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda leaf: _put(fill(leaf, mesh, spec), sharding), tree)


def place_prompts(prompts: Any, mesh: Mesh) -> Any:
    """Put the encoded class prompts on the devices: what is theirs alone, dealt into chunks, over "data"."""
    return jax.tree.map(lambda leaf, spec: place(leaf, mesh, spec), prompts, _prompt_specs(prompts))


def prompt_shapes(prompts: Any, mesh: Mesh) -> Any:
    """The same of shapes, to compile a program without its data."""
    return jax.tree.map(lambda leaf, spec: shapes(leaf, mesh, spec), prompts, _prompt_specs(prompts))


def _prompt_specs(prompts: Any) -> Any:
    chunks, own = jax.tree.map(lambda _: DATA, (prompts.packing, prompts.own))
    everywhere = jax.tree.map(lambda _: REPLICATED, prompts)
    return everywhere._replace(prefix=DATA, packing=chunks._replace(order=REPLICATED), own=own)


def place_backbone(params: Any, mesh: Mesh, shard: bool, least: int = SHARDED_SIZE) -> Any:
    """Put the backbone everywhere, or (`shard`) its arrays of `least` elements or more over "data".

    The last axis that divides evenly is cut; small arrays, and what no axis of divides, are everywhere.
    """

    def spec(leaf: Any) -> PartitionSpec:
        axes = [axis for axis, size in enumerate(leaf.shape) if size % mesh.shape["data"] == 0]
        if not shard or leaf.size < least or not axes:
            return REPLICATED
        return PartitionSpec(*[None] * axes[-1], "data")

    return jax.tree.map(lambda leaf: _put(leaf, NamedSharding(mesh, spec(leaf))), params)


def replicate(tree: Any, mesh: Mesh, count: tuple[int, ...]) -> Any:
    """The first `count[i]` entries of each leaf's axis i (what is left of dummies), on every device: a collective."""
    cut = tuple(map(slice, count))
    take = jax.jit(
        lambda tree: jax.tree.map(lambda leaf: leaf[cut], tree), out_shardings=NamedSharding(mesh, REPLICATED)
    )
    return take(tree)


def own_entries(shape: Sequence[int], mesh: Mesh, spec: PartitionSpec) -> np.ndarray:
    """Which entries of an array, bool of its shape, lie on this process's devices once it is placed."""
    numbers = fill(np.arange(np.prod(shape)).reshape(shape), mesh, spec)
    own = np.zeros(shape, bool)
    for index in NamedSharding(mesh, spec).addressable_devices_indices_map(numbers.shape).values():
        own.flat[numbers[index]] = True
    return own


def _put(leaf: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
