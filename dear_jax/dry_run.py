"""What a config would do, without training: everything that a run needs is made, measured and described.

Every part is tried by itself, so that all problems come out at once.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dear_jax import setup, setup_data, setup_roles, sharding, train
from dear_jax.adapt.model import Model, Settings
from dear_jax.clip.weights import Backbone, cast, parameter_count
from dear_jax.errors import UserError
from dear_jax.step import Frozen

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

    _print("Config", _flatten(config.to_dict()))
    attempt(setup.check, config)
    loaded = attempt(setup.load_model, config)
    backbone, model = loaded or (None, None)
    if backbone is not None:
        _print("Backbone", describe_backbone(backbone))
    settings = attempt(describe_settings, config, backbone, model)
    if backbone is None:
        attempt(setup_data.open_dataset, config)  # its problems come out all the same
    task = attempt(setup_data.load_task, config, backbone)
    if task is not None:
        _print("Data", describe_task(task))
    work = attempt(describe_work, config, backbone, model, task, settings)
    if work is not None:
        _print("Work", work)
    if problems:
        found = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{found} found.\n" + "\n".join(f"  {n}. {p}" for n, p in enumerate(problems, start=1)))
    print("No problem found.")


def describe_settings(config: ConfigDict, backbone: Backbone, model: Model) -> Settings:
    """The run's settings; a role map that the run would make first is named, and another mask stands in for it."""
    if config.mask.pattern == "roles" and not config.mask.role_map and not config.mask.file:
        path = setup_roles.find_role_map(config, backbone, model)
        if path is None:
            path = setup_roles.role_map_path(config, backbone, model)
            _print("Role map", {str(path): f"to be made from the training images of {config.data.dataset}"})
            config = config.copy_and_resolve_references()
            config.mask.pattern = "isolated"
        else:
            _print("Role map", {str(path): "found"})
    return setup.make_settings(config, backbone, model)


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


def describe_task(task: setup_data.Task) -> dict[str, Any]:
    """Images, classes and the first prompts with their lengths."""
    counts = [np.bincount(split.labels, minlength=len(task.trained_on.class_names)) for split in task.train]
    data = task.data
    rows: dict[str, Any] = {
        "data set": f"{data['name']}, source {data['source']}, splits: {data['splits']}",
        "images": ", ".join(f"{count} {split}" for split, count in data["images"].items()),
        "comparable": f"{'yes' if data['comparable'] else 'not'} with published tables. {data['remark']}".strip(),
        "training images": f"{len(task.train[0])} per seed, {min(c.min() for c in counts)} to "
        f"{max(c.max() for c in counts)} per class",
    }
    for name, classes in task.classes.items():
        per_class = np.bincount(classes.test.labels, minlength=len(classes.class_names))
        rows[f"{name} classes"] = (
            f"{len(classes.class_names)}, with {len(classes.test)} test images, "
            f"{per_class.min()} to {per_class.max()} each"
        )
        lengths = np.count_nonzero(classes.token_ids[:3], axis=1)
        rows[f"{name} prompts"] = "; ".join(
            f"{text!r} ({length} tokens)" for text, length in zip(classes.prompts, lengths, strict=False)
        )
        rows[f"{name} context"] = f"{classes.token_ids.shape[1]} tokens, cut to the longest prompt"
    return rows


def describe_work(
    config: ConfigDict, backbone: Backbone, model: Model, task: setup_data.Task, settings: Settings
) -> dict[str, Any]:
    """Steps, trainable parameters, and the memory of one step by XLA's analysis of the compiled program."""
    batches = train.make_batches(config, model, task)
    steps = len(batches)
    batches.close()
    mesh = sharding.make_mesh(len(config.seeds), config.train.batch_size)
    optimizer = train.make_optimizer(config, steps // config.train.epochs)
    state = train.initial_state(config.seeds, 1, backbone, model, optimizer, mesh)
    trainable = sum(leaf[0, 0].size for leaf in jax.tree.leaves(state.adapter))

    params = sharding.place(cast(backbone.params, model.dtype), mesh, sharding.REPLICATED)
    prompts_shape = jax.eval_shape(model.encode_prompts, params, task.trained_on.token_ids)
    size, shape = model.config.image_size, (len(config.seeds), config.train.batch_size)
    compiled = (
        train.compile_step(model, optimizer, mesh)
        .lower(
            state,
            sharding.shapes(Frozen(params, prompts_shape), mesh, sharding.REPLICATED),
            *sharding.shapes(
                (jax.ShapeDtypeStruct((*shape, size, size, 3), jnp.uint8), jax.ShapeDtypeStruct(shape, jnp.int32)),
                mesh,
                sharding.RUN_IMAGES,
            ),
            sharding.shapes(setup.stack_settings([settings]), mesh, sharding.REPLICATED),
        )
        .compile()
    )
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return {
        "steps": f"{steps:,} ({steps // config.train.epochs:,} an epoch), {shape[0]} seeds x {shape[1]} images each",
        "trainable parameters": f"{trainable:,} per seed",
        "devices": f"{mesh.size} of {len(jax.devices())} {jax.devices()[0].device_kind}",
        "memory of a step": f"{(used - memory.alias_size_in_bytes) / 2**20:,.0f} MiB per device, of which "
        f"{memory.temp_size_in_bytes / 2**20:,.0f} MiB temporary",
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
