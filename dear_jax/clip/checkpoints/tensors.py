"""The weights of a checkpoint, one tensor at a time: safetensors or torch's zip format, whole or in shards.

Nothing is kept between reads, and no file stays mapped: what has been read once would count as memory of this process.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from dear_jax.clip.checkpoints import pickled
from dear_jax.clip.checkpoints.hub import TORCH_SUFFIXES, Files, read_json
from dear_jax.errors import UserError

PREFIXES = ("module.", "_orig_mod.", "model.", "clip.")  # of DataParallel and DDP, torch.compile, and wrappers
SAFETENSORS = ("F64", "F32", "F16", "BF16")
INDEX = ".index.json"  # beside the shards of a large checkpoint


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Names and shapes now, values on demand."""

    source: str  # the file, for messages
    shapes: dict[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]  # in the precision of the file
    scripted: bool = False  # a TorchScript module, as OpenAI published CLIP


def open_tensors(files: Files, candidates: Sequence[str]) -> Tensors:
    """The first of the candidate files that the checkpoint has; an index stands for its shards.

    Raises:
        UserError: no such file, a shard is missing, or a file cannot be read.
    """
    path = next((path for candidate in candidates if (path := files.find(candidate))), None)
    if path is None:
        raise files.missing(f"the weights in {' or '.join(candidates)}")
    paths = _shards(files, path) if path.name.endswith(INDEX) else [path]
    parts = [_open_pickled(part) if part.suffix in TORCH_SUFFIXES else _open_safetensors(part) for part in paths]
    owners = {name: part for part in parts for name in part.shapes}
    shapes = {name: shape for part in parts for name, shape in part.shapes.items()}
    scripted = any(part.scripted for part in parts)
    return without_prefix(Tensors(str(path), shapes, lambda name: owners[name].read(name), scripted))


def without_prefix(tensors: Tensors) -> Tensors:
    """The same under names without what wrappers of a model put before every one of them."""
    prefix, names = "", list(tensors.shapes)
    while names and (found := next((p for p in PREFIXES if all(n.startswith(prefix + p) for n in names)), "")):
        prefix += found
    if not prefix:
        return tensors
    shapes = {name.removeprefix(prefix): shape for name, shape in tensors.shapes.items()}
    return dataclasses.replace(tensors, shapes=shapes, read=lambda name: tensors.read(prefix + name))


def _shards(files: Files, index: Path) -> list[Path]:
    try:
        names = sorted(set(read_json(index)["weight_map"].values()))
        if not all(isinstance(name, str) for name in names):
            raise ValueError("its names are no texts")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index} is not an index of shards ({error!r}). Copy the file again.") from error
    found = {name: files.find(name) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise files.missing(f"the shards {', '.join(missing)} that {index.name} lists")
    return [path for path in found.values() if path is not None]


def _open_safetensors(path: Path) -> Tensors:
    def read(name: str) -> np.ndarray:
        try:
            with safe_open(path, "np") as file:
                kind = file.get_slice(name).get_dtype()
                if kind not in SAFETENSORS:
                    raise unsupported(str(path), name, kind)
                return file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, error) from error

    try:
        with safe_open(path, "np") as file:
            return Tensors(str(path), {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, read)  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _open_pickled(path: Path) -> Tensors:
    stored, scripted = pickled.describe(path)

    def read(name: str) -> np.ndarray:
        try:
            return pickled.read(path, stored[name])
        except Exception as error:  # whatever zipfile and NumPy make of damaged bytes
            raise _unreadable(path, error) from error

    return Tensors(str(path), {name: tensor.shape for name, tensor in stored.items()}, read, scripted)


def unsupported(source: str, name: str, kind: str) -> UserError:
    """The error of a tensor that holds other numbers than weights."""
    return UserError(
        f"{source}: {name} holds {kind} numbers, expected float16, bfloat16 or float32. Quantised checkpoints are not "
        "supported: use the original."
    )


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be read ({type(error).__name__}: {error}): truncated or of another format. Copy the file again."
    )
