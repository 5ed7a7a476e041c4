"""Trained adapters as one small file, `adapter.safetensors` of a run: all that is needed beside the backbone.

Tensors are named PROGRAM/adapter/LEAF `[S, V, ...]` and PROGRAM/settings/NAME `[V, ...]`, boolean ones packed into
bits; `images` has a mark of each image file trained on, by which it is known again. The file's metadata says, as JSON
under `dear_jax`, what they belong to: backbone and fingerprint, method and its structure, seeds, variants, and the
classes they were trained on; and `sha256`, the SHA-256 of the whole file with zeros in its place, so that no bit
changes without a word. Files of the versions before 3 have none.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors
from etils import epath
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save

from dear_jax.errors import UserError
from dear_jax.files import hub, json_files, storage
from dear_jax.methods.contract import Adapter, Method, Settings

NAME = "adapter.safetensors"  # in the workdir of a training run
FORMATS = tuple(f"dear_jax adapter, version {number}" for number in (1, 2, 3))  # the last is written, with a checksum
CHECKSUM = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"')  # JSON in JSON; names have their quotes escaped twice
FIRST_METHOD = "dear"  # of all files of version 1
IMAGES = "images"
NO_IMAGES = np.zeros((0, 0), np.uint8)
APART = ("parts", IMAGES)  # what stands in tensors, not in the metadata


class Adapters(NamedTuple):
    """The trained adapters of one program, ready to run."""

    method: Method
    names: tuple[str, ...]  # of its V variants
    adapter: Adapter  # leaves [S, V, ...]
    settings: Settings  # leaves [V, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """One program as NumPy arrays, and the structure of the method that they belong to."""

    structure: Mapping[str, Any]  # `Method.structure`
    names: tuple[str, ...]
    adapter: dict[str, np.ndarray]
    settings: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training run has learned, and from what."""

    method: str  # its name, as the run's config had it
    backbone: str  # the same
    fingerprint: str
    image_size: int | None  # pixels, where the run asked for another than the checkpoint's
    dataset: str
    template: str  # prompt with one {} for the class name
    class_names: tuple[str, ...]  # trained on
    shots: int
    seeds: tuple[int, ...]
    parts: tuple[Part, ...]
    reading: str = ""  # the backbone's, of tokenizer and preprocessing; empty: of before it was kept
    role_maps: tuple[dict[str, Any], ...] = ()  # those that its masks were made of (`roles.role_map.describe`)
    ensemble: tuple[str, ...] = ()  # templates over which plain CLIP took the mean; empty: the one template
    other_classes: tuple[str, ...] = ()  # of the same data set, not trained on
    # Marks of the files trained on, by any seed, uint8 [N, mark]; see data/twice.py.
    images: np.ndarray = dataclasses.field(default_factory=lambda: NO_IMAGES, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The variants of all programs in turn."""
        return tuple(name for part in self.parts for name in part.names)

    def is_new(self, class_names: Sequence[str]) -> bool:
        """Whether there is a class among these that was not trained on."""
        return not set(class_names) <= set(self.class_names)

    def select(self, variant: str = "", seed: int | None = None) -> "Trained":
        """One variant of the run (empty: its first), and of it one seed (None: all).

        Raises:
            UserError: the run has no such variant or seed.
        """
        variant = variant or self.names[0]
        if variant not in self.names:
            raise UserError(f"The run has no variant {variant!r} (config.run_variant); it has {', '.join(self.names)}.")
        if seed is not None and seed not in self.seeds:
            raise UserError(f"The run has no seed {seed} (config.run_seed); it has {', '.join(map(str, self.seeds))}.")
        part = next(part for part in self.parts if variant in part.names)
        v, s = part.names.index(variant), slice(None) if seed is None else [self.seeds.index(seed)]
        chosen = Part(
            part.structure,
            (variant,),
            {name: leaf[s, v : v + 1] for name, leaf in part.adapter.items()},
            {name: leaf[v : v + 1] for name, leaf in part.settings.items()},
        )
        return dataclasses.replace(self, seeds=self.seeds if seed is None else (seed,), parts=(chosen,))


def to_bytes(trained: Trained) -> bytes:
    """The content of the file."""
    tensors: dict[str, np.ndarray] = {IMAGES: trained.images} if len(trained.images) else {}
    parts = []
    for number, part in enumerate(trained.parts):
        packed = {}
        for group, leaves in (("adapter", part.adapter), ("settings", part.settings)):
            for name, leaf in leaves.items():
                if leaf.dtype == bool:
                    packed[f"{group}/{name}"] = leaf.shape
                    leaf = np.packbits(leaf.reshape(len(leaf), -1), axis=-1)
                tensors[f"{number}/{group}/{name}"] = np.ascontiguousarray(leaf)
        parts.append({"structure": dict(part.structure), "names": part.names, "packed": packed})
    fields = {f.name: getattr(trained, f.name) for f in dataclasses.fields(trained) if f.name not in APART}
    about = {"format": FORMATS[-1], "sha256": "0" * 64, **fields, "parts": parts}
    content = save(tensors, metadata={"dear_jax": json.dumps(about)})
    found = CHECKSUM.search(content)
    assert found
    return content[: found.start(1)] + _checksum(content, found) + content[found.end(1) :]


def _checksum(content: bytes, found: re.Match[bytes]) -> bytes:
    """Of a file whose own checksum stands at `found`."""
    return hashlib.sha256(content[: found.start(1)] + b"0" * 64 + content[found.end(1) :]).hexdigest().encode()


def load(path: epath.PathLike) -> Trained:
    """Read the file of a run, given as its workdir, by its own name, or as hf://USER/NAME.

    Raises:
        UserError: there is none, it is no adapter file, or it is damaged.
    """
    path = hub.run_folder(path)
    if path.is_dir():
        if not (path / NAME).exists():
            begun = (path / "config.json").exists()
            state = "this one has not: start it again with its command" if begun else "this folder is none"
            raise UserError(f"config.run: {path} holds no {NAME}. A workdir has it once its run has trained; {state}.")
        path = path / NAME
    if not path.is_file():
        raise UserError(
            f"config.run: no file or folder {path}. Give the workdir of a finished training run, or hf://USER/NAME for "
            "one on the Hugging Face Hub."
        )
    try:
        content = storage.read_bytes(path)
        about = _read_metadata(content, path)
        tensors = load_tensors(content)
        _check_finite(tensors)
        return _from_tensors(_upgrade(about), tensors)
    except UserError:
        raise
    except storage.failures(
        safetensors.SafetensorError, KeyError, TypeError, ValueError, AttributeError, OverflowError
    ) as error:
        raise UserError(
            f"config.run: {path} cannot be read as an adapter ({type(error).__name__}: {error}). Copy it again, or "
            "start its run again with its command, which makes it from the last checkpoint."
        ) from error


def _read_metadata(content: bytes, path: epath.Path) -> dict[str, Any]:
    """What a file says of itself, once it is known to be whole.

    Raises:
        UserError: it is no adapter file.
        ValueError, KeyError, TypeError, AttributeError: it is damaged.
    """
    start = 8 + int.from_bytes(content[:8], "little")  # of the tensors; before them the header, JSON
    found = CHECKSUM.search(content, 8, min(start, len(content)))
    if found and found[1] != _checksum(content, found):
        raise ValueError("its content is not what its sha256 was made of: it is damaged")
    header = json_files.parse(content[8:start])
    about = json_files.parse(header.get("__metadata__", {}).get("dear_jax", "{}"))
    if about.get("format") not in FORMATS:
        raise UserError(f"config.run: {path} is no adapter of this project ({about.get('format', 'no format')}).")
    if about["format"] == FORMATS[-1] and not found:
        raise ValueError("it has no sha256: it is damaged")
    return dict(about)


def _check_finite(tensors: Mapping[str, np.ndarray]) -> None:
    for name, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.inexact) and not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite numbers")


def _upgrade(about: dict[str, Any]) -> dict[str, Any]:
    """The metadata of version 1, which knew one method and one boolean array, as those of version 2.

    Of this version there are files without an ensemble, role maps, the backbone's reading, or the classes not trained
    on.
    """
    about = {"ensemble": [], "role_maps": [], "reading": "", "other_classes": [], **about}
    if about["format"] != FORMATS[0]:
        return about
    parts = [
        {"structure": part["structure"], "names": part["names"], "packed": {"settings/head_mask": shape}}
        for part in about["parts"]
        for shape in [part["head_mask_shape"]]
    ]
    return about | {"method": FIRST_METHOD, "parts": parts}


def _from_tensors(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> Trained:
    fields: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value := about[field.name], list) else value
        for field in dataclasses.fields(Trained)
        if field.name not in APART
    }
    parts = []
    for number, part in enumerate(about["parts"]):
        groups: dict[str, dict[str, np.ndarray]] = {"adapter": {}, "settings": {}}
        for group, leaves in groups.items():
            prefix = f"{number}/{group}/"
            for key, leaf in tensors.items():
                if key.startswith(prefix):
                    name = key.removeprefix(prefix)
                    leaves[name] = _unpack(leaf, part["packed"].get(f"{group}/{name}"))
        parts.append(Part(part["structure"], tuple(part["names"]), groups["adapter"], groups["settings"]))
    return Trained(**fields, parts=tuple(parts), images=tensors.get(IMAGES, NO_IMAGES))


def _unpack(leaf: np.ndarray, shape: Sequence[int] | None) -> np.ndarray:
    if shape is None:
        return leaf
    bits = np.unpackbits(leaf, axis=-1, count=int(np.prod(shape[1:])))
    return bits.astype(bool).reshape(shape)
