"""`pytorch_model.bin` read with NumPy alone: many checkpoints of the hub, OpenAI's ViT-B/16 among them, have no other.

Such a file is a zip archive with one pickle, which describes the tensors, and one uncompressed member per storage.
A pickle can run any code, so this one is read by an unpickler that knows only the few names below and builds
descriptions, never objects of torch.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dear_jax.errors import UserError

DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "BoolStorage": np.bool_,
}


class Stored(NamedTuple):
    """A tensor that lies in a member of the archive."""

    member: str
    dtype: np.dtype
    offset: int  # in elements
    shape: tuple[int, ...]


def describe(path: Path) -> dict[str, Stored]:
    """The tensors of a file by name.

    Raises:
        UserError: not a zip archive of plain tensors (older torch formats, whole models, training checkpoints).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (index,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            found = _Unpickler(archive.read(index), index.removesuffix("data.pkl")).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, ValueError, TypeError, EOFError) as error:
        raise UserError(
            f"{path} is not a plain file of tensors as torch 1.6 and later write it ({error}). Convert it: load it "
            "with torch, then write model.safetensors with safetensors.torch.save_file."
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Stored) for value in found.values()):
        raise UserError(
            f"{path}: expected a dictionary of tensors, found something else, such as a training checkpoint. Convert "
            "its state_dict alone to model.safetensors."
        )
    return dict(found)


def read(path: Path, tensor: Stored) -> np.ndarray:
    """One tensor, without the rest of the file."""
    count = int(np.prod(tensor.shape))
    with zipfile.ZipFile(path) as archive, archive.open(tensor.member) as member:
        member.seek(tensor.offset * tensor.dtype.itemsize)
        data = member.read(count * tensor.dtype.itemsize)
    return np.frombuffer(data, tensor.dtype, count).reshape(tensor.shape)


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, prefix: str):
        super().__init__(io.BytesIO(data))
        self._prefix = prefix

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda tensor, *_: tensor
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
        _, dtype, key, *_ = pid  # "storage", type, key, device, number of elements
        return f"{self._prefix}data/{key}", dtype


def _tensor(
    storage: tuple[str, np.dtype], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Stored:
    steps = np.cumprod((1, *shape[:0:-1]))[::-1][: len(shape)]  # of a tensor in C order
    if any(size > 1 and step != expected for size, step, expected in zip(shape, stride, steps, strict=True)):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} has the strides {stride}")
    return Stored(storage[0], storage[1], offset, tuple(shape))
