"""The train step of all runs of a job as one compiled program, and whether it fits the devices.

program, mesh, frozen parameters -> shapes and places of the step's arguments -> the step, compiled once and ahead of
time, with the class prompts in chunks where memory asks for it. The loop runs it, a dry run describes it, and the job
`compile` makes it for devices that are not there.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Frozen, Prompts
from dear_jax.methods import wording
from dear_jax.methods.contract import Length, Method, Settings, Support
from dear_jax.parallel import agreement, axes, sharding
from dear_jax.parallel.sharding import Specs
from dear_jax.training import class_chunk, step
from dear_jax.training.optimizer import Optimizer, Rates
from dear_jax.training.step import Metrics, TrainState

ADAMW = Optimizer()
NOISE = 0x6E6F6973  # what a run's key is folded with for what training draws, apart from the start


@dataclasses.dataclass(frozen=True)
class Program:
    """Variants of one structure: they train together, as one compiled program."""

    method: Method
    names: tuple[str, ...]  # V variants
    settings: Settings  # leaves [V, ...]
    rates: Rates  # leaves [V]
    starts: tuple[Any, ...]  # where the variants' adapters start

    def spread(self, shards: int, chunk: int) -> "Program":
        """The same with its class prompts dealt to so many groups of devices, so many at a time."""
        return dataclasses.replace(self, method=self.method.spread(shards, chunk))

    def sized(self, images: int) -> "Program":
        """The same for so many training images, see `Method.sized`."""
        return dataclasses.replace(self, method=self.method.sized(images))


@dataclasses.dataclass(frozen=True)
class Runs:
    """What all programs of a job have in common: who trains, on how much, and where."""

    seeds: tuple[int, ...]  # S
    batch_size: int  # B, images per seed
    length: Length
    mesh: Mesh
    specs: Specs
    optimizer: Optimizer = ADAMW

    def shape(self, program: Program) -> tuple[int, int]:
        """S and V of a program."""
        return len(self.seeds), len(program.names)


class Compiled(NamedTuple):
    """A step that is ready to run."""

    program: Program  # with the class chunk that was chosen
    step: jax.stages.Compiled  # takes what `arguments` describes; the old state's memory is reused
    bytes: int  # of a device, at the largest, by the compiler's analysis


def compile_fitting(
    program: Program, runs: Runs, params: Params, token_ids: np.ndarray, memory: float | None = None
) -> Compiled:
    """The step of a program, with the class prompts in chunks where it would not fit a device.

    Args:
        program: a class chunk that it has already is kept.
        runs: of the job.
        params: CLIP's as they lie on the devices, or their shapes.
        token_ids: of the class prompts `[C, T]`, which are looked at.
        memory: bytes of one device; None: those of the devices at hand, the least of all processes'.

    Raises:
        UserError: it does not fit.
    """
    memory = agreement.least(class_chunk.device_bytes(jax.local_devices()[0])) if memory is None else memory

    def attempt(chunk: int) -> tuple[float, Compiled | None]:
        fitted = program.spread(shards, chunk or given)
        lowered = make_step(fitted.method, runs, runs.shape(program)).lower(*arguments(fitted, runs, params, token_ids))
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            needed = class_chunk.exhausted_bytes(str(error))
            if needed is None:
                raise
            return needed, None
        return bytes_of(compiled), Compiled(fitted, compiled, bytes_of(compiled))

    given, shards = program.method.split.class_chunk, runs.mesh.shape["data"]
    if given:  # is kept as long as the device's whole memory can hold the step
        _, compiled = class_chunk.fit(attempt, given, memory, least=given)
    else:
        _, compiled = class_chunk.fit(attempt, -(-len(token_ids) // shards), class_chunk.SAFE_SHARE * memory)
    assert compiled is not None  # what fits has been compiled
    return compiled


def make_step(method: Method, runs: Runs, shape: tuple[int, int]) -> Any:
    """The jitted train step of all runs: state `[S, V]`, images `[S]`, settings `[V]`, all of them filled up.

    The old state's memory is reused. The metrics, of the runs of `shape` [S, V] without the dummies, are everywhere.
    """
    of_all: Any = functools.partial(step.train_runs, jax.vmap, method, runs.optimizer, runs.length)
    if runs.mesh.size == 1:
        # A CPU gains nothing from runs side by side, and its caches do not hold what they work on.
        in_turn = functools.partial(step.train_runs, axes.in_turn, method, runs.optimizer, runs.length)
        of_all = functools.partial(jax.lax.platform_dependent, cpu=in_turn, default=of_all)

    def update(*arguments: Any) -> tuple[TrainState, Metrics]:
        state, metrics = of_all(*arguments)
        return state, jax.tree.map(lambda leaf: leaf[: shape[0], : shape[1]], metrics)

    placed = (NamedSharding(runs.mesh, runs.specs.runs), NamedSharding(runs.mesh, sharding.REPLICATED))
    return jax.jit(update, donate_argnums=0, out_shardings=placed)


def arguments(program: Program, runs: Runs, params: Params, token_ids: np.ndarray) -> tuple[Any, ...]:
    """The step's arguments as shapes, dtypes and places; `params` as they are given."""
    split, mesh, specs = program.method.split, runs.mesh, runs.specs
    prompts = wording.shapes(program.method, params, token_ids)
    wants = program.method.wanted is not None
    supports = (program.method.support_like(len(token_ids)),) * len(runs.seeds) if wants else ()
    state = jax.eval_shape(lambda *frozen: fresh_state(program, runs, *frozen), params, prompts, supports)
    size, shape = split.config.image_size, (len(runs.seeds), runs.batch_size)
    images, labels = jax.ShapeDtypeStruct((*shape, size, size, 3), jnp.uint8), jax.ShapeDtypeStruct(shape, jnp.int32)
    return (
        sharding.shapes(state, mesh, specs.runs),
        Frozen(params, sharding.prompt_shapes(prompts, mesh)),
        sharding.shapes(images, mesh, specs.images),
        sharding.shapes(labels, mesh, specs.labels),
        *sharding.shapes((program.settings, program.rates), mesh, specs.settings),
    )


def bytes_of(compiled: jax.stages.Compiled) -> int:
    """Bytes of a device that a compiled program takes at its largest, by the compiler's analysis."""
    memory: Any = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return int(used + memory.generated_code_size_in_bytes - memory.alias_size_in_bytes)


def initial_state(
    program: Program, runs: Runs, params: Params, prompts: Prompts, supports: Sequence[Support] = ()
) -> TrainState:
    """The state before the first step, filled up, on the mesh's devices."""
    return sharding.place(fresh_state(program, runs, params, prompts, supports), runs.mesh, runs.specs.runs)


def fresh_state(
    program: Program, runs: Runs, params: Params, prompts: Prompts, supports: Sequence[Support] = ()
) -> TrainState:
    """Each seed starts from its own adapter, whatever the other seeds are; its variants as their settings say.

    Args:
        program: the method, and where its variants start.
        runs: who trains, and by which optimizer.
        params: CLIP's, float32.
        prompts: of the classes trained on.
        supports: of each seed, where the method wants them.
    """
    method, seeds = program.method, runs.seeds

    def start(s: int, start: Any) -> Any:
        key = jax.random.key(seeds[s])
        adapter = method.init(key, params, prompts, start)
        carried = method.begin(adapter, jax.random.fold_in(key, NOISE))
        return method.meet(adapter, carried, supports[s]) if supports else (adapter, carried)

    def stack(*leaves: jax.Array) -> jax.Array:
        return jnp.stack(leaves).reshape(len(seeds), len(program.starts), *leaves[0].shape)

    starts = [start(s, variant) for s in range(len(seeds)) for variant in program.starts]
    # The optimizer's state does not depend on its rates.
    optimizer = runs.optimizer.make(jax.tree.map(lambda leaf: leaf[0], program.rates), Length(1, 1))
    adapter, carried = jax.tree.map(stack, *starts)
    create = jax.vmap(jax.vmap(lambda adapter, carried: step.create_state(adapter, carried, optimizer)))
    state: TrainState = create(adapter, carried)
    return state
