"""The compiled programs of a run, described by shapes alone: no checkpoint, no image, no device that runs.

plan, devices to compile for -> the very functions that training and evaluation compile, and the shapes, dtypes and
places of their arguments.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from dear_jax.clip.checkpoints import architectures, weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.clip.config import CLIPConfig
from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts, Split
from dear_jax.clip.tokenizer import Tokenizer, shorten
from dear_jax.data.datasets import find_row
from dear_jax.errors import UserError
from dear_jax.evaluation import accuracy
from dear_jax.methods import paths
from dear_jax.methods.contract import Length, Method
from dear_jax.parallel import sharding
from dear_jax.setup import data
from dear_jax.setup.plans.compile import CompilePlan
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import NoRoleMaps
from dear_jax.training import program as programs_of
from dear_jax.training.program import Program, Runs

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


def plan_programs(plan: CompilePlan, devices: list[jax.Device]) -> list[Planned]:
    """The train step, and the three programs of the evaluation, of every group of variants of one structure.

    Evaluation on other data sets than the one trained on is left out; a method without steps has no train step.

    Raises:
        UserError: a number of classes or an architecture that cannot be known.
    """
    sizes, training = count(plan), plan.training
    backbone = describe_backbone(plan)
    vision = backbone.config.vision
    # A mask from a role map, which would need the backbone, gives way to another of its shape.
    roles = NoRoleMaps(vision.layers, vision.heads)
    images = sizes.classes * training.data.shots
    programs = tuple(
        program.sized(images)
        for program in make_programs(training.variants, training.backbone, backbone.config, roles)
    )
    schedule = training.schedule
    mesh, specs = sharding.make_layout(
        len(schedule.seeds),
        [len(program.names) for program in programs],
        sizes.batch_size,
        sizes.classes,
        devices,
        schedule.mesh,
    )
    per_epoch = images // sizes.batch_size
    length = Length(-(-sizes.steps // per_epoch), per_epoch, schedule.steps)
    runs = Runs(schedule.seeds, sizes.batch_size, length, mesh, specs, schedule.optimizer)
    planned = []
    for number, program in enumerate(programs if programs[0].method.steps else (), start=1):
        which = f", program {number}" if len(programs) > 1 else ""
        planned.append(_train_step(f"train step{which}", plan, sizes, backbone, program, runs))
    if not plan.evaluation:
        return planned
    return planned + _evaluation(plan, sizes, backbone, programs, runs, sharding.data_mesh(devices))


def count(plan: CompilePlan) -> Sizes:
    """Classes, steps and evaluation batches: as the plan or the data set's row say.

    A data set of one's own is opened where the classes are not given.
    """
    training, schedule = plan.training, plan.training.schedule
    row, sets, shots = find_row(training.data.dataset), training.data.protocol.sets, training.data.shots
    classes, images = -(-row.classes // sets), row.images[2]
    if plan.classes:
        classes = plan.classes
    elif not classes:
        dataset = data.open_dataset(training.data)
        classes, images = -(-len(dataset.class_names) // sets), len(dataset.test)
    batch_size = min(schedule.batch_size, classes * shots)
    steps = schedule.steps or schedule.epochs * (classes * shots // batch_size)
    return Sizes(classes, batch_size, steps, -(-images // training.measuring.batch_size), sets)


def describe_backbone(plan: CompilePlan) -> Backbone:
    """The backbone with shapes in place of parameters, and without a tokenizer."""
    asked = plan.training.backbone
    clip = architectures.find(asked.name)
    if asked.image_size is not None:
        clip = dataclasses.replace(clip, image_size=asked.image_size)
    if not SHARED < plan.prompt_length <= clip.context_length:
        raise UserError(
            f"config.compile.prompt_length is {plan.prompt_length}: expected {SHARED + 1} to "
            f"{clip.context_length}, the context of the text tower."
        )
    return Backbone(asked.name, clip, weights.shapes(clip), cast(Tokenizer, None), fingerprint="")


def stand_in_prompts(clip: CLIPConfig, classes: int, length: int, context: int = 0) -> np.ndarray:
    """Token ids `[C, T]` of prompts of `length` tokens, which begin alike as those of a template do.

    Where they begin with `context` words that a method replaces, they are as much longer as these are more than a
    template's.
    """
    shared = max(SHARED, 1 + context)
    length = min(length + shared - SHARED, clip.context_length)
    ids = np.zeros((classes, clip.context_length), np.int32)
    ids[:, :length] = 1
    ids[:, 0], ids[:, length - 1] = clip.bos_token_id, clip.eos_token_id
    ids[:, shared : length - 1] = 2 + np.arange(classes)[:, None] % (min(clip.bos_token_id, clip.vocab_size) - 3)
    return shorten(ids)


def _params(backbone: Backbone, dtype: Any, mesh: Mesh) -> Any:
    cast_params = functools.partial(weights.cast, dtype=dtype)
    return sharding.shapes(jax.eval_shape(cast_params, backbone.params), mesh, sharding.REPLICATED)


def _train_step(
    name: str, plan: CompilePlan, sizes: Sizes, backbone: Backbone, program: Program, runs: Runs
) -> Planned:
    params = _params(backbone, program.method.split.dtype, runs.mesh)
    token_ids = stand_in_prompts(backbone.config, sizes.classes, plan.prompt_length, program.method.context)
    shards = runs.mesh.shape["data"]

    def plan_step(chunk: int) -> Planned:
        spread = program.spread(shards, chunk)
        arguments = programs_of.arguments(spread, runs, params, token_ids)
        step = programs_of.make_step(spread.method, runs, runs.shape(program))
        return Planned(name, sizes.steps, step, arguments, runs.mesh, class_chunk=chunk)

    given = program.method.split.class_chunk
    if given:
        return plan_step(given)
    return plan_step(0)._replace(classes=-(-sizes.classes // shards), in_chunks=plan_step)


def _encode_prompts(
    of_each: Sequence[Split | Method], params: Params, token_ids: Sequence[np.ndarray]
) -> list[Prompts]:
    """The class prompts of zero-shot CLIP and of every method."""
    return [of.encode_prompts(params, ids) for of, ids in zip(of_each, token_ids, strict=True)]


def _evaluation(
    plan: CompilePlan, sizes: Sizes, backbone: Backbone, programs: tuple[Program, ...], runs: Runs, mesh: Mesh
) -> list[Planned]:
    """Prompts and what is made of the classes, once per class set; a batch of images under every rule."""
    measuring = plan.training.measuring
    spread = [program.spread(mesh.shape["data"], program.method.split.class_chunk) for program in programs]
    methods = [program.method for program in spread]
    plain = methods[0].split
    params = _params(backbone, plain.dtype, mesh)
    stand_in = functools.partial(stand_in_prompts, backbone.config, sizes.classes, plan.prompt_length)
    token_ids = [stand_in(), *(stand_in(method.context) for method in methods)]
    encode_prompts = jax.jit(functools.partial(_encode_prompts, (plain, *methods), token_ids=token_ids))
    prompts = [sharding.prompt_shapes(of_split, mesh) for of_split in jax.eval_shape(encode_prompts, params)]
    everywhere = NamedSharding(mesh, sharding.REPLICATED)
    planned = [Planned("class prompts", sizes.class_sets, encode_prompts, (params,), mesh)]

    adapted = []
    for number, (program, of_program) in enumerate(zip(spread, prompts[1:], strict=True), start=1):
        which = f", program {number}" if len(programs) > 1 else ""
        learned = program.method.learned_like(backbone.params, sizes.classes, program.starts[0])
        shape = runs.shape(program)
        adapter = {
            name: jax.ShapeDtypeStruct((*shape, *leaf.shape), leaf.dtype) for name, leaf in learned.items()
        }
        run = sharding.shapes((adapter, program.settings), mesh, sharding.REPLICATED)
        encode = jax.jit(functools.partial(accuracy.encode_classes, program.method), out_shardings=everywhere)
        arguments = (run, Frozen(params, of_program))
        planned.append(Planned(f"text features{which}", sizes.class_sets, encode, arguments, mesh))
        adapted.append((*run, sharding.shapes(jax.eval_shape(encode, *arguments), mesh, sharding.REPLICATED)))

    (batch,) = sharding.filled((measuring.batch_size,), mesh, sharding.DATA)
    size = backbone.config.image_size
    images = sharding.shapes(jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8), mesh, sharding.DATA)
    rules = paths.all_rules(methods[0].new_classes if measuring.rule is None else measuring.rule)
    predict = jax.jit(
        functools.partial(accuracy.predict_batch, plain, methods, rules), out_shardings=everywhere
    )
    step = Planned("evaluation step", sizes.eval_batches, predict, (params, prompts[0].features, images, adapted), mesh)
    return [*planned, step]
