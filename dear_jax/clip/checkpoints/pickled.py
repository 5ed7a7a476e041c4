"""torch's own files read with NumPy alone: `pytorch_model.bin`, training checkpoints, OpenAI's TorchScript archives.

Such a file is a zip archive with one pickle, which describes the tensors, and one uncompressed member per storage.
A pickle can run any code, so this one is read by an unpickler that knows only the few names below and builds
descriptions, never objects of torch: what else a training checkpoint or a TorchScript module holds becomes an empty
`_Thing`. Nothing takes more memory than a few times the file's own size.
"""

import io
import itertools
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax.numpy as jnp
import ml_dtypes
import numpy as np

from dear_jax.errors import UserError

DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
STATE = "state_dict"  # the key of the weights in a training checkpoint, as open_clip and others save them
MOST_AXES = 8


class Stored(NamedTuple):
    """A tensor that lies in a member of the archive."""

    member: str
    dtype: np.dtype
    offset: int  # in elements
    shape: tuple[int, ...]


class Described(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Stored]  # by name
    scripted: bool  # a TorchScript module, as OpenAI published CLIP


def describe(path: Path) -> Described:
    """The tensors of a file: of a dictionary, of the `state_dict` of a training checkpoint, of a TorchScript module.

    Raises:
        UserError: not a zip archive of these (older torch formats, whole models).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            (index,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            data = _member(archive, index).read()
        _check_sizes(data)
        found = _Unpickler(data, index.removesuffix("data.pkl")).load()
        if isinstance(found, _Thing) and found.name.startswith("__torch__"):
            return Described(dict(_attributes(found, "", iter(range(len(data))))), scripted=True)
    except Exception as error:  # whatever the bytes of a damaged pickle make of it
        raise UserError(
            f"{path} is not a plain file of tensors as torch 1.6 and later write it ({type(error).__name__}: "
            f"{error}). Convert it: load it with torch, then write model.safetensors with "
            "safetensors.torch.save_file."
        ) from error
    if isinstance(found, Mapping) and isinstance(found.get(STATE), Mapping):
        found = found[STATE]
    others = [found] if not isinstance(found, Mapping) else [v for v in found.values() if not isinstance(v, Stored)]
    if others:
        what = f"it refers to {others[0].name}" if isinstance(others[0], _Thing) else f"a {type(others[0]).__name__}"
        raise UserError(
            f"{path}: expected a dictionary of tensors, or a training checkpoint with one under {STATE!r}, found "
            f"something else ({what}). Convert the dictionary of weights alone to model.safetensors."
        )
    return Described({str(name): tensor for name, tensor in found.items()}, scripted=False)


def read(path: Path, tensor: Stored) -> np.ndarray:
    """One tensor, without the rest of the file."""
    count, size = math.prod(tensor.shape), tensor.dtype.itemsize
    with zipfile.ZipFile(path) as archive:
        there = archive.getinfo(tensor.member).file_size // size
        if tensor.offset + count > there:
            raise zipfile.BadZipFile(f"{tensor.member} holds {there} numbers, not {tensor.offset + count}")
        with _member(archive, tensor.member) as member:
            member.seek(tensor.offset * size)
            data = member.read(count * size)
    return np.frombuffer(data, tensor.dtype, count).reshape(tensor.shape)


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A member open for reading, which is no larger than the file."""
    member = archive.getinfo(name)
    if member.file_size > Path(str(archive.filename)).stat().st_size:
        raise zipfile.BadZipFile(f"{name} in it is said to have {member.file_size} bytes, more than the file")
    if member.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{name} in it is compressed, as torch never writes it")
    return archive.open(member)


def _check_sizes(data: bytes) -> None:
    """Refuse a pickle that asks for more memory than its own size explains, before it is read."""
    for opcode, argument, _ in pickletools.genops(data):  # which refuses texts that end beyond the data
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise pickle.UnpicklingError(f"it numbers an object {argument}, in {len(data)} bytes")


class _Thing:
    """Stands for an object that is not built; keeps its attributes."""

    name = ""

    def __new__(cls, *_: Any, **__: Any) -> "_Thing":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, *_: Any) -> None:
        pass

    def extend(self, _: Any) -> None:
        """What is in a list of another class does not count."""

    append = extend


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, prefix: str):
        super().__init__(io.BytesIO(data))
        self._prefix = prefix

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return lambda: OrderedDict()  # torch fills it afterwards
        if module == "torch._utils" and name in _FUNCTIONS:
            return _FUNCTIONS[name]
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return np.dtype(np.uint8)
        if module == "torch" and name in DTYPES:
            return np.dtype(DTYPES[name])
        return type("_Thing", (_Thing,), {"name": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> tuple[str, np.dtype]:
        _, dtype, key, *_ = pid  # "storage", type, key, device, number of elements
        return f"{self._prefix}data/{key}", dtype


def _tensor(
    storage: tuple[str, np.dtype], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Stored:
    if len(shape) > MOST_AXES or min((offset, *shape)) < 0:
        raise pickle.UnpicklingError(f"a tensor has {len(shape)} axes and the offset {offset}")
    steps = list(itertools.accumulate((1, *shape[:0:-1]), lambda one, other: one * other))[::-1]  # in C order
    if any(size > 1 and step != expected for size, step, expected in zip(shape, stride, steps, strict=False)):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} has the strides {stride}")
    return Stored(storage[0], storage[1], offset, tuple(shape))


def _tensor_of_dtype(
    storage: tuple[str, np.dtype],
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    grad: bool,
    hooks: Any,
    dtype: type[_Thing],
    *_: Any,
) -> Stored:
    """A tensor of a dtype that has no storage class of its own, such as float8."""
    kind = dtype.name.removeprefix("torch.")
    return _tensor((storage[0], np.dtype(getattr(ml_dtypes, kind, kind))), offset, shape, stride)


_FUNCTIONS = {
    "_rebuild_tensor_v2": _tensor,
    "_rebuild_tensor_v3": _tensor_of_dtype,
    "_rebuild_parameter": lambda tensor, *_: tensor,
}


def _attributes(module: _Thing, prefix: str, budget: Iterator[int]) -> Iterator[tuple[str, Stored]]:
    """The tensors of a TorchScript module and of those within, by their dotted names.

    `budget` has an entry for each byte of the pickle: what repeats itself may be visited more often than it is there.
    """
    for name, value in module.state.items():
        if next(budget, None) is None:
            raise pickle.UnpicklingError("its modules contain each other")
        if isinstance(value, Stored):
            yield f"{prefix}{name}", value
        elif isinstance(value, _Thing) and isinstance(value.state, Mapping):
            yield from _attributes(value, f"{prefix}{name}.", budget)
