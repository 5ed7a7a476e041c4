"""What a config would do, without training: everything that a run needs is made, measured and described.

Every part is tried by itself, so that all problems come out at once.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints.weights import Backbone, cast, parameter_count
from dear_jax.errors import UserError
from dear_jax.jobs import dry_run_images, dry_run_roles, train
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.dear import patterns
from dear_jax.parallel import sharding
from dear_jax.setup import data as setup_data
from dear_jax.setup import programs as setup
from dear_jax.setup import roles as setup_roles
from dear_jax.setup import runs as setup_runs
from dear_jax.setup import variants as setup_variants
from dear_jax.setup.data import ClassSet
from dear_jax.setup.programs import Program
from dear_jax.training import program as train_program
from dear_jax.training.optimizer import Length
from dear_jax.training.program import Runs

Result = TypeVar("Result")


def run(config: ConfigDict) -> None:
    """Print the resolved config, the backbone, the data, the work and its memory.

    Raises:
        UserError: every problem found, in one message.
    """
    problems: list[str] = []

    def attempt(action: Callable[..., Result], *arguments: Any) -> Result | None:
        if any(argument is None for argument in arguments):
            return None  # what it needs is a problem already
        try:
            return action(*arguments)
        except UserError as error:
            problems.append(str(error))
            return None

    if config.job == "pretrain":
        raise UserError("--dry_run describes jobs that use a backbone; config.job=pretrain makes one from nothing.")
    _print("Config", _flatten(config.to_dict()))
    attempt(setup.check, config)
    on_images = config.job in ("predict", "retrieve")
    loaded = attempt(setup_runs.load_chosen if on_images else setup_runs.load, config)
    trained, backbone = loaded or (None, None)
    if backbone is not None:
        _print("Backbone", describe_backbone(backbone))
    elif not on_images:
        attempt(setup_data.open_dataset, config)  # its problems come out all the same
    if config.job == "find_roles":
        dataset = attempt(setup_data.open_dataset, config) if backbone else None
        for title, rows in (
            ("Data", attempt(dry_run_roles.describe_dataset, config, dataset)),
            ("Work", attempt(dry_run_roles.describe_analysis, config, backbone, dataset)),
        ):
            if rows is not None:
                _print(title, rows)
    elif config.job == "train":
        programs = attempt(describe_programs, config, backbone)
        task = attempt(setup_data.load_task, config, backbone)
        if task is not None:
            _print("Data", describe_data(task.classes, task.data) | describe_draws(task))
        if task is not None and programs is not None:
            dataset = setup_data.open_dataset(config)
            for variant in attempt(dry_run_roles.without_map, config, backbone) or []:
                analysis = attempt(dry_run_roles.describe_analysis, variant, backbone, dataset)
                if analysis is not None:
                    _print("Role map, made first", analysis)
        work = attempt(describe_work, config, backbone, task, programs)
        if work is not None:
            _print("Work", work)
    else:
        if trained is not None and backbone is not None:
            attempt(trained.adapters, backbone, setup.DTYPES["float32"])
            _print("Run", describe_run(trained))
        if config.job == "predict":
            sections = [
                attempt(dry_run_images.describe_images, config),
                attempt(dry_run_images.describe_classes, config, trained, backbone),
            ]
        elif config.job == "retrieve":
            sections = [attempt(dry_run_images.describe_retrieval, config)]
        else:
            loaded_classes = attempt(setup_data.load_classes, config, backbone)
            sections = [describe_data(*loaded_classes)] if loaded_classes is not None else []
        rows = {key: value for section in sections for key, value in (section or {}).items()}
        if rows:
            _print("Data", rows)
    if problems:
        found = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{found} found.\n" + "\n".join(f"  {n}. {p}" for n, p in enumerate(problems, start=1)))
    print("No problem found.")


def describe_programs(config: ConfigDict, backbone: Backbone) -> tuple[Program, ...]:
    """The run's programs; a role map that the run would make first is named, and another mask stands in for it."""
    variants, maps = {}, {}
    for name, variant in setup_variants.variant_configs(config).items():
        mask = variant.mask
        if mask.pattern in patterns.MAPPED and not mask.role_map and not mask.file:
            model = setup.make_model(variant, backbone)
            path = setup_roles.find_role_map(variant, backbone, model)
            if path is None:
                path = setup_roles.role_map_path(variant, backbone, model)
                maps[str(path)] = f"to be made from the training images of {config.data.dataset}"
                variant = variant.copy_and_resolve_references()
                variant.mask.pattern = "isolated"
            else:
                maps[str(path)] = "found"
        variants[name] = variant
    if maps:
        _print("Role map", maps)
    return setup.make_programs(variants, backbone)


def describe_run(trained: Trained) -> dict[str, Any]:
    """The trained adapters that are evaluated."""
    return {
        "trained on": f"{trained.dataset}, {len(trained.class_names)} classes, {trained.shots} shots",
        "backbone": f"{trained.backbone} ({trained.fingerprint})",
        "seeds": ", ".join(map(str, trained.seeds)),
        "variants": ", ".join(trained.names),
    }


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """Architecture and identity."""
    config = backbone.config
    return {
        "name": backbone.name,
        "fingerprint": backbone.fingerprint,
        "parameters": f"{parameter_count(backbone.params):,}",
        "image": f"{config.image_size} pixels in patches of {config.patch_size}",
        "vision": f"{config.vision.layers} layers, {config.vision.heads} heads, width {config.vision.width}",
        "text": f"{config.text.layers} layers, {config.text.heads} heads, width {config.text.width}",
        "activation": f"{config.vision.activation} (vision), {config.text.activation} (text)",
    }


def describe_data(classes: Mapping[str, ClassSet], data: Mapping[str, Any]) -> dict[str, Any]:
    """Images, classes and the first prompts with their lengths."""
    rows: dict[str, Any] = {
        "data set": f"{data['name']}, source {data['source']}, splits: {data['splits']}",
        "images": ", ".join(f"{count} {split}" for split, count in data["images"].items()),
        "comparable": f"{'yes' if data['comparable'] else 'not'} with published tables. {data['remark']}".strip(),
    }
    if "skipped" in data:
        left_out = data["skipped"]["images"]
        rows["left out"] = f"{len(left_out)} images{': ' if left_out else ''}{' '.join(left_out[:10])}"
    for name, class_set in classes.items():
        per_class = np.bincount(class_set.test.labels, minlength=len(class_set.class_names))
        rows[f"{name} classes"] = (
            f"{len(class_set.class_names)}, with {len(class_set.test)} test images, "
            f"{per_class.min()} to {per_class.max()} each"
        )
        names = class_set.class_names
        rows[f"{name} names"] = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        lengths = np.count_nonzero(class_set.token_ids[:3], axis=1)
        rows[f"{name} prompts"] = "; ".join(
            f"{text!r} ({length} tokens)" for text, length in zip(class_set.prompts, lengths, strict=False)
        )
        rows[f"{name} context"] = f"{class_set.token_ids.shape[1]} tokens, cut to the longest prompt"
    return rows


def describe_draws(task: setup_data.Task) -> dict[str, Any]:
    """The images trained on."""
    counts = [np.bincount(split.labels, minlength=len(task.trained_on.class_names)) for split in task.train]
    return {
        "training images": f"{len(task.train[0])} per seed, {min(c.min() for c in counts)} to "
        f"{max(c.max() for c in counts)} per class"
    }


def describe_work(
    config: ConfigDict, backbone: Backbone, task: setup_data.Task, programs: Sequence[Program]
) -> dict[str, Any]:
    """Steps, trainable parameters, and the memory of one step by XLA's analysis of the compiled programs."""
    mesh, specs = train.make_layout(config, task, programs)
    batches = train.make_batches(config, backbone, task, mesh, specs)
    steps = len(batches)
    batches.close()
    length = Length(config.train.epochs, steps // config.train.epochs)
    runs = Runs(tuple(config.seeds), task.batch_size, length, mesh, specs)
    rows: dict[str, Any] = {
        "steps": f"{steps:,} ({steps // config.train.epochs:,} an epoch), {len(config.seeds)} seeds x "
        f"{task.batch_size} images each",
        "devices": f"{mesh.size} {jax.devices()[0].device_kind}: {mesh.shape['run']} groups of runs x "
        f"{mesh.shape['data']} parts of their images and classes",
    }
    for number, program in enumerate(programs, start=1):
        which = f" of program {number}" if len(programs) > 1 else ""
        if len(program.names) > 1 or which:
            rows[f"variants{which}"] = ", ".join(program.names)
        rows |= _describe_step(config, backbone, task, program, runs, which)
    return rows


def _describe_step(
    config: ConfigDict, backbone: Backbone, task: setup_data.Task, program: Program, runs: Runs, which: str
) -> dict[str, Any]:
    """Trainable parameters and memory of one program."""
    adapter = train_program.fresh_state(program, runs.seeds[:1], backbone.params).adapter
    trainable = sum(leaf[0, 0].size for leaf in jax.tree.leaves(adapter))
    params = cast(backbone.params, program.model.dtype)
    params = sharding.place_backbone(params, runs.mesh, config.compute.shard_backbone)
    compiled = train_program.compile_fitting(program, runs, params, task.trained_on.token_ids)
    chunk = compiled.program.model.class_chunk
    at_a_time = f", with {chunk} class prompts at a time" if chunk else ""
    return {
        f"trainable parameters{which}": f"{trainable:,} per seed and variant",
        f"memory of a step{which}": f"{compiled.bytes / 2**20:,.0f} MiB per device{at_a_time}",
    }


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": repr(value)}
    return flat


def _print(title: str, rows: dict[str, Any]) -> None:
    width = max(map(len, rows))
    print(title)
    print("\n".join(f"  {key:<{width}}  {value}" for key, value in rows.items()), flush=True)
