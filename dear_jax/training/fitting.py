"""Methods that look at images by themselves, beside the steps: at the end of each epoch, and once at the end.

The runs follow one another on the host: what they do there is small, and theirs alone.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dear_jax.clip.layers import Params
from dear_jax.clip.split import Prompts
from dear_jax.files.workdir import Workdir
from dear_jax.methods.contract import Adapter
from dear_jax.parallel import sharding
from dear_jax.training.program import Program, Runs
from dear_jax.training.step import TrainState
from dear_jax.training.support import Supports

Notes = dict[str, np.ndarray]  # numbers for the log, [S, V]


def review(program: Program, state: TrainState, runs: Runs, params: Params, supports: Supports) -> TrainState:
    """The state at the end of an epoch, as the method leaves it; `params` are CLIP's."""
    if not supports:
        return state
    adapter, carried = sharding.replicate((state.adapter, state.carried), runs.mesh, runs.shape(program))

    def of_run(s: int, v: int) -> Any:
        run = (_pick(adapter, s, v), _pick(carried, s, v), _setting(program, v))
        return program.method.review(*run, params, supports[s])

    reviewed = _of_each(of_run, runs.shape(program))
    return state._replace(carried=sharding.place(reviewed, runs.mesh, runs.specs.runs))


def fit(
    program: Program, adapter: Adapter, carried: Any, params: Params, supports: Supports
) -> tuple[Adapter, Notes]:
    """What predictions are made with, leaves `[S, V, ...]` as those of the adapter and of what was carried."""
    if not supports:
        return adapter, {}

    def of_run(s: int, v: int) -> Any:
        run = (_pick(adapter, s, v), _pick(carried, s, v), _setting(program, v))
        return program.method.fit(*run, params, supports[s])

    found: tuple[Adapter, Notes] = _of_each(of_run, (len(supports), len(program.names)))
    return found


def fit_at_once(
    program: Program, seeds: Sequence[int], params: Params, token_ids: np.ndarray, supports: Supports
) -> tuple[Adapter, Notes]:
    """The same of a method without steps, which was given the class prompts `[C, T]`."""

    def start(s: int, v: int) -> Adapter:
        text = jnp.asarray(supports[s].text)
        prompts: Any = Prompts(None, None, None, text, token_ids)  # type: ignore[arg-type]
        return program.method.init(jax.random.key(seeds[s]), params, prompts, program.starts[v])

    fresh = _of_each(start, (len(seeds), len(program.names)))
    return fit(program, fresh, (), params, supports)


def log(
    files: Workdir, step: int, start: float, programs: Sequence[Program], notes: Sequence[Notes]
) -> None:
    """Print and write the numbers of all fits, begun at `start` after `step`: per variant over the seeds."""
    rows: dict[str, dict[str, list[float]]] = {}
    for program, found in zip(programs, notes, strict=True):
        if not found:  # nothing was fitted
            continue
        for name, values in found.items():
            of_variants = {variant: values[:, v].round(6).tolist() for v, variant in enumerate(program.names)}
            rows.setdefault(name, {}).update(of_variants)
        for v, variant in enumerate(program.names):
            means = ", ".join(f"{name} {values[:, v].mean():.4g}" for name, values in found.items())
            print(f"Fitted, {variant} (mean over seeds): {means}.", flush=True)
    if rows:
        files.append_metrics({"step": step, "fit_seconds": round(time.perf_counter() - start, 3), "fit": rows})
        files.flush_metrics()


def _of_each(of_run: Callable[[int, int], Any], shape: tuple[int, int]) -> Any:
    """A function of every seed and variant, leaves `[S, V, ...]`."""
    found = [of_run(s, v) for s in range(shape[0]) for v in range(shape[1])]
    return jax.tree.map(
        lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]).reshape(*shape, *np.shape(leaves[0])), *found
    )


def _pick(tree: Any, s: int, v: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[s, v], tree)


def _setting(program: Program, v: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[v], program.settings)
