"""Trained adapters as one small file, `adapter.safetensors` of a run: all that is needed beside the backbone.

Tensors are named PROGRAM/adapter/LEAF `[S, V, ...]` and PROGRAM/settings/NAME `[V, ...]`, head masks packed into bits.
The file's metadata says, as JSON under `dear_jax`, what they belong to: backbone and fingerprint, structure, seeds,
variants, and the classes they were trained on.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from etils import epath
from safetensors.numpy import load_file, save

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.errors import UserError
from dear_jax.files import storage
from dear_jax.files.local_copy import fetch
from dear_jax.methods.dear import tokens
from dear_jax.methods.dear.model import Model, Settings
from dear_jax.methods.dear.tokens import Adapter, Structure

NAME = "adapter.safetensors"  # in the workdir of a training run
FORMAT = "dear_jax adapter, version 1"
HEAD_MASK = "head_mask"


class Adapters(NamedTuple):
    """The trained adapters of one program."""

    model: Model
    names: tuple[str, ...]  # of its V variants
    adapter: Adapter  # leaves [S, V, ...]
    settings: Settings  # leaves [V, ...]


@dataclasses.dataclass(frozen=True)
class Part:
    """One program: NumPy arrays and the structure that they have."""

    structure: Structure
    names: tuple[str, ...]
    adapter: dict[str, np.ndarray]
    settings: Settings


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training run has learned, and from what."""

    backbone: str  # its name, as the run's config had it
    fingerprint: str
    image_size: int | None  # pixels, where the run asked for another than the checkpoint's
    dataset: str
    template: str  # prompt with one {} for the class name
    class_names: tuple[str, ...]  # trained on
    shots: int
    seeds: tuple[int, ...]
    parts: tuple[Part, ...]

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
        return dataclasses.replace(
            self,
            seeds=self.seeds if seed is None else (seed,),
            parts=(
                Part(
                    part.structure,
                    (variant,),
                    {name: leaf[s, v : v + 1] for name, leaf in part.adapter.items()},
                    Settings(*(leaf[v : v + 1] for leaf in part.settings)),
                ),
            ),
        )

    def adapters(self, backbone: Backbone, dtype: Any) -> tuple[Adapters, ...]:
        """The adapters of every program on their backbone, in a compute dtype.

        Raises:
            UserError: another backbone than they were trained on, or arrays that do not fit it.
        """
        if backbone.fingerprint != self.fingerprint:
            raise UserError(
                f"The adapter was trained on the backbone {self.backbone} with the fingerprint {self.fingerprint}; "
                f"{backbone.name} has {backbone.fingerprint}. Give the backbone of the run, by config.run_backbone "
                "if it has moved."
            )
        return tuple(
            Adapters(_model(part, backbone, dtype), part.names, jax.tree.map(jnp.asarray, part.adapter), part.settings)
            for part in self.parts
        )


def to_bytes(trained: Trained) -> bytes:
    """The content of the file."""
    tensors: dict[str, np.ndarray] = {}
    for number, part in enumerate(trained.parts):
        settings = part.settings._asdict()
        mask = np.asarray(settings.pop(HEAD_MASK))
        settings[HEAD_MASK] = np.packbits(mask.reshape(len(mask), -1), axis=-1)
        for group, leaves in (("adapter", part.adapter), ("settings", settings)):
            tensors |= {f"{number}/{group}/{name}": np.ascontiguousarray(leaf) for name, leaf in leaves.items()}
    fields = {f.name: getattr(trained, f.name) for f in dataclasses.fields(trained) if f.name != "parts"}
    parts = [
        {
            "structure": dataclasses.asdict(part.structure),
            "names": part.names,
            "head_mask_shape": part.settings.head_mask.shape,
        }
        for part in trained.parts
    ]
    return save(tensors, metadata={"dear_jax": json.dumps({"format": FORMAT, **fields, "parts": parts})})


def load(path: epath.PathLike) -> Trained:
    """Read the file of a run, given as its workdir or by its own name.

    Raises:
        UserError: there is none, it is no adapter file, or it is damaged.
    """
    path = storage.to_path(path)
    if path.is_dir():
        if not (path / NAME).exists():
            begun = (path / "config.json").exists()
            state = "this one has not: start it again with its command" if begun else "this folder is none"
            raise UserError(f"config.run: {path} holds no {NAME}. A workdir has it once its run has trained; {state}.")
        path = path / NAME
    if not path.is_file():
        raise UserError(f"config.run: no file or folder {path}. Give the workdir of a finished training run.")
    if storage.is_remote(path):
        path = fetch(path)
    try:
        with safetensors.safe_open(path, "numpy") as file:
            about = json.loads((file.metadata() or {}).get("dear_jax", "{}"))
        if about.get("format") != FORMAT:
            raise UserError(f"config.run: {path} is no adapter of this project ({about.get('format', 'no format')}).")
        return _from_tensors(about, load_file(path))
    except UserError:
        raise
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"config.run: {path} cannot be read as an adapter ({type(error).__name__}: {error}). Copy it again, or "
            "train again."
        ) from error


def _from_tensors(about: dict[str, Any], tensors: dict[str, np.ndarray]) -> Trained:
    fields: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value := about[field.name], list) else value
        for field in dataclasses.fields(Trained)
        if field.name != "parts"
    }
    parts = []
    for number, part in enumerate(about["parts"]):
        prefix = f"{number}/adapter/"
        adapter = {name.removeprefix(prefix): leaf for name, leaf in tensors.items() if name.startswith(prefix)}
        settings: dict[str, Any] = {name: tensors[f"{number}/settings/{name}"] for name in Settings._fields}
        shape = tuple(part["head_mask_shape"])
        count = int(np.prod(shape[1:]))
        settings[HEAD_MASK] = np.unpackbits(settings[HEAD_MASK], axis=-1, count=count).astype(bool).reshape(shape)
        structure = Structure(**part["structure"] | {"attributes": tuple(part["structure"]["attributes"])})
        parts.append(Part(structure, tuple(part["names"]), adapter, Settings(**settings)))
    return Trained(**fields, parts=tuple(parts))


def _model(part: Part, backbone: Backbone, dtype: Any) -> Model:
    """The model of a part; its arrays must have the shapes that the structure and the backbone ask for."""
    model = Model(backbone.config, part.structure, dtype)
    fresh = jax.eval_shape(
        lambda key: tokens.initialize(key, backbone.params, model.config, model.structure), jax.random.key(0)
    )
    expected = {name: leaf.shape for name, leaf in fresh.items()}
    found = {name: leaf.shape[2:] for name, leaf in part.adapter.items()}
    length = 1 + model.config.patches + part.structure.count
    layers = model.config.vision.layers - part.structure.vision_layer + 1
    expected[HEAD_MASK] = (layers, model.config.vision.heads, length, length)
    found[HEAD_MASK] = part.settings.head_mask.shape[1:]
    if expected != found:
        wrong = [
            f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'nothing')}"
            for name in sorted(expected.keys() | found.keys())
            if expected.get(name) != found.get(name)
        ]
        raise UserError(
            f"The adapter does not fit the backbone {backbone.name} with J = {part.structure.vision_layer} and the "
            f"attributes {', '.join(part.structure.attributes)}: {'; '.join(wrong)}."
        )
    return model
