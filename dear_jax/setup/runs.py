"""From the trained run that a job names (`config.run`) to its adapters, ready to run on their backbone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints import weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.errors import UserError
from dear_jax.files import hub, json_files, storage
from dear_jax.files.workdir import DRAWN_SPLITS, Workdir
from dear_jax.methods import adapter_file
from dear_jax.methods.adapter_file import Adapters, Part, Trained
from dear_jax.setup import backbones, methods
from dear_jax.setup.backbones import BackbonePlan
from dear_jax.setup.data import DataPlan


@dataclasses.dataclass(frozen=True)
class RunChoice:
    """Which trained run, and what of it: keys of the config."""

    run: str  # workdir, adapter file or hf://USER/NAME; empty: none, zero-shot CLIP
    backbone: str  # its backbone's folder, where that has moved
    variant: str  # empty: the first
    seed: int | None  # None: all


def read(config: ConfigDict) -> RunChoice:
    """The choice of a config."""
    return RunChoice(config.run, config.run_backbone, config.run_variant, config.run_seed)


def load(choice: RunChoice, plan: BackbonePlan) -> tuple[Trained | None, Backbone]:
    """The run's adapters with the backbone that they were trained on; without a run, the plan's backbone.

    With a run, its own backbone, image size and method count, whatever the config's keys for them say.

    Raises:
        UserError: the run or its backbone cannot be loaded.
    """
    if not choice.run:
        return None, backbones.load(plan)
    return _load(choice)


def load_chosen(choice: RunChoice, job: str) -> tuple[Trained, Backbone]:
    """One variant of the run, one seed of it or all, and the backbone.

    Raises:
        UserError: there is no run, or not this variant or seed; the run or its backbone cannot be loaded.
    """
    if not choice.run:
        raise UserError(
            f"config.run is empty: {job} needs what a training run has learned. Give the run's workdir by "
            "--config.run=WORKDIR."
        )
    trained, backbone = _load(choice)
    return trained.select(choice.variant, choice.seed), backbone


def _load(choice: RunChoice) -> tuple[Trained, Backbone]:
    trained = adapter_file.load(choice.run)
    return trained, weights.load_backbone(choice.backbone or trained.backbone, trained.image_size)


def inherit_splits(choice: RunChoice, plan: DataPlan, files: Workdir) -> None:
    """Where the run drew splits of the same images for itself, an evaluation must not draw others: it copies them.

    A run on the hub has none: lists of its owner's images do not leave the machine.
    """
    if hub.is_address(choice.run):
        return
    earlier = storage.to_path(choice.run) / DRAWN_SPLITS
    if not choice.run or not earlier.is_file() or (files.path / DRAWN_SPLITS).exists():
        return
    theirs = json_files.read_object(storage.to_path(choice.run) / "config.json").get("data")
    ours = {"dataset": plan.dataset, "source": plan.places.source, "root": plan.places.root}
    if isinstance(theirs, dict) and {key: theirs.get(key) for key in ours} == ours:
        files.write_json(DRAWN_SPLITS, json_files.read_object(earlier))


def restore(trained: Trained, backbone: Backbone, dtype: Any, class_chunk: int = 0) -> tuple[Adapters, ...]:
    """The adapters of every program on their backbone, in a compute dtype.

    Raises:
        UserError: another backbone than they were trained on, arrays that do not fit it, or an unknown method.
    """
    if backbone.fingerprint != trained.fingerprint:
        raise UserError(
            f"The adapter was trained on the backbone {trained.backbone} with the fingerprint {trained.fingerprint}; "
            f"{backbone.name} has {backbone.fingerprint}. Give the backbone of the run, by config.run_backbone "
            "if it has moved."
        )
    if trained.reading and backbone.reading and trained.reading != backbone.reading:
        raise UserError(
            f"The weights of {backbone.name} are those that the adapter was trained on, but not what lies beside them: "
            f"its tokenizer, its preprocessing or its config is another ({backbone.reading}, expected "
            f"{trained.reading}). Give the backbone of the run as it was, by config.run_backbone if it has moved."
        )
    return tuple(_restore_part(trained, part, backbone, dtype, class_chunk) for part in trained.parts)


def _restore_part(trained: Trained, part: Part, backbone: Backbone, dtype: Any, class_chunk: int) -> Adapters:
    """The method of a part; its arrays must have the shapes that the structure and the backbone ask for."""
    entry = methods.find(trained.method)
    method = entry.restore(part.structure, backbone.config, dtype).spread(1, class_chunk)
    start = entry.start(entry.Options())
    fresh = method.learned_like(backbone.params, len(trained.class_names), start)
    like = method.settings_like()
    expected = {key: leaf.shape for key, leaf in (fresh | like._asdict()).items()}
    found = {key: leaf.shape[2:] for key, leaf in part.adapter.items()}
    found |= {key: leaf.shape[1:] for key, leaf in part.settings.items()}
    if expected != found:
        wrong = [
            f"{key} is {found.get(key, 'missing')}, expected {expected.get(key, 'nothing')}"
            for key in sorted(expected.keys() | found.keys())
            if expected.get(key) != found.get(key)
        ]
        structure = ", ".join(f"{key} {value}" for key, value in part.structure.items())
        raise UserError(
            f"The adapter of method {trained.method} ({structure}) does not fit the backbone {backbone.name}: "
            f"{'; '.join(wrong)}."
        )
    return Adapters(method, part.names, jax.tree.map(jnp.asarray, part.adapter), type(like)(**part.settings))
