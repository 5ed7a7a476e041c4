"""The compiled programs of a run, described by shapes alone: no checkpoint, no image, no device that runs.

config, devices to compile for -> the very functions that `train` and `evaluate` compile, and the shapes, dtypes and
places of their arguments.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints import architectures, weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.tokenizer import Tokenizer, shorten
from dear_jax.data.datasets import find_row
from dear_jax.errors import UserError
from dear_jax.evaluation import accuracy
from dear_jax.methods.dear import fusion, patterns
from dear_jax.parallel import sharding
from dear_jax.setup import data as setup_data
from dear_jax.setup import programs as setup
from dear_jax.setup import variants as setup_variants
from dear_jax.setup.programs import Program
from dear_jax.training import program as train_program
from dear_jax.training.optimizer import Length
from dear_jax.training.program import Runs

SHARED = 5  # tokens with which all prompts begin: the beginning of the text, and "a photo of a"


class Planned(NamedTuple):
    """A program that a run will compile."""

    name: str
    times: int  # executions in a whole run; 0: not known
    function: Any  # jitted
    arguments: tuple[Any, ...]  # trees of jax.ShapeDtypeStruct with shardings
    mesh: Mesh
    class_chunk: int = 0  # class prompts at a time; 0: all
    classes: int = 0  # of one device, whose prompts may be taken in chunks; 0: they may not
    in_chunks: "Callable[[int], Planned] | None" = None  # the same with so many class prompts at a time


class Sizes(NamedTuple):
    """How much data a run sees."""

    classes: int  # that are told apart
    batch_size: int  # training images per seed and step
    steps: int
    eval_batches: int  # over all class sets of the data set; 0: not known
    class_sets: int


def plan(config: ConfigDict, devices: list[jax.Device]) -> list[Planned]:
    """The train step, and the three programs of the evaluation, of every group of variants of one structure.

    Evaluation on other data sets than the one trained on is left out.

    Raises:
        UserError: a number of classes or an architecture that cannot be known.
    """
    sizes = count(config)
    backbone = describe_backbone(config)
    programs = setup.make_programs(_without_role_maps(config), backbone)
    setup.check_mesh(config, len(devices))
    variants = [len(program.names) for program in programs]
    mesh, specs = sharding.make_layout(
        len(config.seeds), variants, sizes.batch_size, sizes.classes, devices, config.compute.mesh
    )
    length = Length(config.train.epochs, sizes.steps // config.train.epochs)
    runs = Runs(tuple(config.seeds), sizes.batch_size, length, mesh, specs)
    planned = []
    for number, program in enumerate(programs, start=1):
        which = f", program {number}" if len(programs) > 1 else ""
        planned.append(_train_step(f"train step{which}", config, sizes, backbone, program, runs))
    if not config.compile.evaluation:
        return planned
    mesh = sharding.data_mesh(devices)
    return planned + _evaluation(config, sizes, backbone, programs, mesh)


def count(config: ConfigDict) -> Sizes:
    """Classes, steps and evaluation batches: as the keys of `config.compile` or the data set's row say.

    A data set of one's own is opened where the classes are not given.
    """
    row = find_row(config.data.dataset)
    halves = 2 if config.protocol == "base2new" else 1
    classes, images = -(-row.classes // halves), row.images[2]
    if config.compile.classes:
        classes = config.compile.classes
    elif not classes:
        dataset = setup_data.open_dataset(config)
        classes, images = -(-len(dataset.class_names) // halves), len(dataset.test)
    batch_size = min(config.train.batch_size, classes * config.data.shots)
    steps = config.train.epochs * (classes * config.data.shots // batch_size)
    return Sizes(classes, batch_size, steps, -(-images // config.eval.batch_size), halves)


def describe_backbone(config: ConfigDict) -> Backbone:
    """The backbone with shapes in place of parameters, and without a tokenizer."""
    clip = architectures.find(config.backbone)
    if config.image_size is not None:
        clip = dataclasses.replace(clip, image_size=config.image_size)
    if not SHARED < config.compile.prompt_length <= clip.context_length:
        raise UserError(
            f"config.compile.prompt_length is {config.compile.prompt_length}: expected {SHARED + 1} to "
            f"{clip.context_length}, the context of the text tower."
        )
    return Backbone(config.backbone, clip, weights.shapes(clip), cast(Tokenizer, None), fingerprint="")


def stand_in_prompts(clip: CLIPConfig, classes: int, length: int) -> np.ndarray:
    """Token ids `[C, T]` of prompts of `length` tokens, which begin alike as those of a template do."""
    ids = np.zeros((classes, clip.context_length), np.int32)
    ids[:, :length] = 1
    ids[:, 0], ids[:, length - 1] = clip.bos_token_id, clip.eos_token_id
    ids[:, SHARED : length - 1] = 2 + np.arange(classes)[:, None] % (min(clip.bos_token_id, clip.vocab_size) - 3)
    return shorten(ids)


def _without_role_maps(config: ConfigDict) -> dict[str, ConfigDict]:
    """The variants; a mask from a role map, which would need the backbone, gives way to another of its shape."""
    variants = {}
    for name, variant in setup_variants.variant_configs(config).items():
        if variant.mask.pattern in patterns.MAPPED:
            variant = variant.copy_and_resolve_references()
            variant.mask.pattern = "isolated"
        variants[name] = variant
    return variants


def _params(backbone: Backbone, dtype: Any, mesh: Mesh) -> Any:
    cast_params = functools.partial(weights.cast, dtype=dtype)
    return sharding.shapes(jax.eval_shape(cast_params, backbone.params), mesh, sharding.REPLICATED)


def _train_step(
    name: str, config: ConfigDict, sizes: Sizes, backbone: Backbone, program: Program, runs: Runs
) -> Planned:
    params = _params(backbone, program.model.dtype, runs.mesh)
    token_ids = stand_in_prompts(backbone.config, sizes.classes, config.compile.prompt_length)
    shards = runs.mesh.shape["data"]

    def plan_step(chunk: int) -> Planned:
        spread = dataclasses.replace(program, model=program.model.spread(shards, chunk))
        arguments = train_program.arguments(spread, runs, params, token_ids)
        step = train_program.make_step(spread.model, runs, runs.shape(program))
        return Planned(name, sizes.steps, step, arguments, runs.mesh, class_chunk=chunk)

    given = program.model.class_chunk
    if given:
        return plan_step(given)
    return plan_step(0)._replace(classes=-(-sizes.classes // shards), in_chunks=plan_step)


def _evaluation(
    config: ConfigDict, sizes: Sizes, backbone: Backbone, programs: tuple[Program, ...], mesh: Mesh
) -> list[Planned]:
    """Prompts and text features, once per class set; a batch of images under the learned fusion."""
    all_models = (setup.make_model(config, backbone), *(program.model for program in programs))
    plain, *adapted_models = models = [model.spread(mesh.shape["data"], model.class_chunk) for model in all_models]
    params = _params(backbone, plain.dtype, mesh)
    token_ids = stand_in_prompts(backbone.config, sizes.classes, config.compile.prompt_length)
    encode_prompts = jax.jit(functools.partial(accuracy.encode_prompts, models, token_ids=token_ids))
    prompts = [sharding.prompt_shapes(of_model, mesh) for of_model in jax.eval_shape(encode_prompts, params)]
    everywhere = NamedSharding(mesh, sharding.REPLICATED)
    planned = [Planned("class prompts", sizes.class_sets, encode_prompts, (params,), mesh)]

    adapted = []
    one_each = zip(programs, adapted_models, prompts[1:], strict=True)
    for number, (program, model, program_prompts) in enumerate(one_each, start=1):
        which = f", program {number}" if len(programs) > 1 else ""
        fresh = functools.partial(train_program.fresh_state, program, config.seeds)
        adapter = jax.eval_shape(fresh, backbone.params).adapter
        run = sharding.shapes((adapter, program.settings), mesh, sharding.REPLICATED)
        encode = jax.jit(functools.partial(accuracy.encode_classes, model), out_shardings=everywhere)
        planned.append(Planned(f"text features{which}", sizes.class_sets, encode, (run, params, program_prompts), mesh))
        features = jax.eval_shape(encode, run, params, program_prompts)
        adapted.append((*run, sharding.shapes(features, mesh, sharding.REPLICATED)))

    (batch,) = sharding.filled((config.eval.batch_size,), mesh, sharding.DATA)
    size = backbone.config.image_size
    images = {
        "image": jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((batch,), jnp.int32),
        "valid": jax.ShapeDtypeStruct((batch,), jnp.bool_),
    }
    images = sharding.shapes(images, mesh, sharding.DATA)
    modes = fusion.from_first(fusion.parse_mode(config.fusion.new_classes))
    count_batch = jax.jit(functools.partial(accuracy.count_batch, models, modes), out_shardings=everywhere)
    arguments = (params, prompts[0].features, images, adapted)
    return [*planned, Planned("evaluation step", sizes.eval_batches, count_batch, arguments, mesh)]
