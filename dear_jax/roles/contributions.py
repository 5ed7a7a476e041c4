"""The contributions of all heads to all images, in a memory-mapped file that an interrupted run goes on with.

`FOLDER/contributions.npy` is float16 `[images, n, H, d]` (layers J..L); `progress.json` beside it says what it was made
of and how many images are in it. Memory does not grow with the number of images.
"""

import errno
import functools
import hashlib
import json
import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float
from numpy.lib.format import open_memmap

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import pipeline
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError
from dear_jax.files import json_files, progress_bar, storage
from dear_jax.parallel import agreement, processes, sharding
from dear_jax.roles.decompose import decompose

ARRAY, PROGRESS = "contributions.npy", "progress.json"
ZEROS = 2**24  # bytes written at a time, where the operating system cannot allocate a file


def stream(
    backbone: Backbone,
    split: ImageSplit,
    first_layer: int,
    *,
    folder: epath.Path,
    batch_size: int,
    workers: int = 0,
    shared: bool = False,
) -> Float[np.ndarray, "images n H d"]:
    """Decompose every image of the split, or those that an earlier start has left to do; float16, memory-mapped.

    Args:
        backbone: the CLIP.
        split: the images.
        first_layer: J, counted from 1.
        folder: of the file, which is not read by other processes.
        batch_size: images at a time.
        workers: processes that prepare images.
        shared: whether all processes of the job call this, and share the images out. The first alone then writes, and
            has what was made; the others get an empty array.

    Raises:
        UserError: no space, or an image whose contributions are not finite.
    """
    tower = backbone.config.vision
    shape = (len(split), tower.layers - first_layer + 1, tower.heads, backbone.config.embed_dim)
    identity = {"fingerprint": backbone.fingerprint, "first_layer": first_layer, "images": _identify(split)}
    first = processes.is_first() or not shared
    array: Any = np.empty((0, *shape[1:]), np.float16)
    done = 0
    if not shared:
        array, done = _open(folder, shape, identity)
    else:
        with processes.together():
            if first:
                array, done = _open(folder, shape, identity)
        done = agreement.from_first(done)
    if done == len(split):
        return array
    if done:
        print(f"Going on after the first {done} of {len(split)} images in {folder}.", flush=True)
    mesh = sharding.data_mesh(jax.devices() if shared else jax.local_devices())
    compute = compile_heads(backbone, first_layer, mesh)
    own = sharding.own_entries((batch_size,), mesh, sharding.DATA)
    rest = split.subset(range(done, len(split)))
    for batch in progress_bar.bar(
        pipeline.eval_batches(rest, batch_size, backbone.config.image_size, workers, own=own),
        disable=not first,
        desc="Decomposing",
        total=-(-len(rest) // batch_size),
        unit="batch",
    ):
        heads = compute(batch["image"])[batch["valid"]]
        _check_finite(heads, done)
        if first:
            array[done : done + len(heads)] = heads
            array.flush()
            _write_progress(folder, identity, done + len(heads))
        done += len(heads)
    return array


def compile_heads(
    backbone: Backbone, first_layer: int, mesh: Mesh | None = None
) -> Callable[[np.ndarray], Float[np.ndarray, "B n H d"]]:
    """Images uint8 to the contributions of the heads of layers first_layer..L, float32, on all devices of a mesh."""
    mesh = mesh or sharding.data_mesh(jax.local_devices())
    params = sharding.place(backbone.params, mesh, sharding.REPLICATED)

    @functools.partial(jax.jit, out_shardings=NamedSharding(mesh, sharding.REPLICATED))
    def heads(params: dict, images: jax.Array) -> jax.Array:
        pixels = vision.normalize(images, backbone.config)
        return decompose(params, backbone.config, pixels, first_layer).heads

    return lambda images: np.asarray(heads(params, sharding.place(images, mesh, sharding.DATA)))[: len(images)]


def _identify(split: ImageSplit) -> str:
    """Names the images by their number, labels and first and last picture: another split goes elsewhere."""
    digest = hashlib.sha256(split.labels.tobytes())
    for index in {0, len(split) - 1}:
        digest.update(np.ascontiguousarray(split.load(index)).tobytes())
    return f"{len(split)}-{digest.hexdigest()[:16]}"


def _open(folder: epath.Path, shape: tuple[int, ...], identity: dict) -> tuple[np.memmap, int]:
    """The file of an earlier start with its number of images, or a new one."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        progress = json_files.unseal(json_files.parse((folder / PROGRESS).read_bytes()))
        array = open_memmap(folder / ARRAY, mode="r+")
        if progress["made_of"] == identity and array.shape == shape and progress["done"] in range(shape[0] + 1):
            return array, int(progress["done"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # absent or damaged: begin anew
    (folder / PROGRESS).unlink(missing_ok=True)
    try:
        array = open_memmap(folder / ARRAY, mode="w+", dtype=np.float16, shape=shape)
        _allocate(folder / ARRAY, array.offset)
        return array, 0
    except OSError as error:
        (folder / ARRAY).unlink(missing_ok=True)
        size = 2 * np.prod(shape, dtype=np.int64) / 2**20
        raise UserError(
            f"{folder / ARRAY}: cannot make a file of {size:,.0f} MiB ({error.strerror}). Use another folder, or fewer "
            "images (config.roles.images)."
        ) from error


def _allocate(path: epath.Path, header: int) -> None:
    """Have the disk keep space for all of a new file, whose values after `header` bytes are all zero.

    Where there is none later, a write to the mapped file ends the process by SIGBUS.

    Raises:
        OSError: there is none.
    """
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, size)
            return
        except AttributeError:  # macOS
            pass
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        file.seek(header)
        for start in range(header, size, ZEROS):
            file.write(bytes(min(ZEROS, size - start)))


def _write_progress(folder: epath.Path, identity: dict, done: int) -> None:
    storage.write(folder / PROGRESS, json.dumps(json_files.seal({"made_of": identity, "done": done})))


def _check_finite(heads: np.ndarray, first: int) -> None:
    limit = float(np.finfo(np.float16).max)
    bad = ~(np.abs(heads) <= limit).all((1, 2, 3))
    if bad.any():
        raise UserError(
            f"Image {first + int(np.argmax(bad))} gives head contributions that are not finite numbers of at most "
            f"{limit:.0f} in size. Look for damaged weights of the backbone, or for that image."
        )
