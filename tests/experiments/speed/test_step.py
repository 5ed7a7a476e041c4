"""The benchmark of steps: its workers, those beside them, and the FLOPs that it compares with."""

import dataclasses
import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.checkpoints import weights
from dear_jax.setup import methods
from dear_jax.tpu.flops import product_flops
from dear_jax.training import program as programs_of
from experiments.speed import case as cases
from experiments.speed import step
from experiments.speed.case import Case
from experiments.speed.worker import PackageWorker

SPEAKS = """
import json, sys
print(json.dumps({said}), flush=True)
for line in sys.stdin:
    command = line.split()[0]
    if command == "step" and {ends}:
        sys.exit(3)
    answer = {{"seconds": {seconds}, "cpu_seconds": 1.0, "flops": 4e9, "peak_bytes": 2**20, "of_device": True}}
    print(json.dumps(answer), flush=True)
"""
SAID = dict.fromkeys(("compile_seconds", "temporary_bytes", "argument_bytes", "chunks", "rows"), 1)
SAID |= {"device": "a device", "flops": 2e9}


def _speaker(seconds, said=None, ends=False):
    text = SPEAKS.format(said=json.dumps(said or {}), seconds=seconds, ends=ends)
    return [sys.executable, "-c", text]


@pytest.fixture
def tiny(monkeypatch):
    """ViT-B/16 with narrow towers, and images of four patches."""
    towers = {
        name: dataclasses.replace(getattr(cases.VIT_B16, name), width=32, heads=2, mlp_width=64)
        for name in ("vision", "text")
    }
    monkeypatch.setattr(cases, "VIT_B16", dataclasses.replace(cases.VIT_B16, embed_dim=16, vocab_size=50000, **towers))


def _counted(case):
    """FLOPs of a step, traced and not compiled."""
    params = jax.eval_shape(functools.partial(weights.cast, dtype=jnp.float32), weights.shapes(case.config))
    runs, program = case.runs, case.program
    arguments = programs_of.arguments(program, runs, params, case.short_ids())
    return product_flops(programs_of.make_step(program.method, runs, runs.shape(program)).trace(*arguments).jaxpr)


@pytest.mark.parametrize("sizes", [{}, {"seeds": 2, "variants": 2}])
def test_the_formula_and_the_count_are_near(sizes):
    case = Case(50, 4, **sizes)
    found = step.flops(case, counted=0.0)
    assert found["flops by"] == "formula"
    assert _counted(case) == pytest.approx(found["package flops"], rel=0.02)


@pytest.mark.parametrize("name", cases.METHODS)
def test_every_method_with_steps_has_a_case(name):
    case = Case(6, 2, image_size=32, method=name, variants=3)
    assert case.program.method.steps
    assert len(case.program.names) == len(case.program.starts) == 3
    assert {leaf.shape[0] for leaf in jax.tree.leaves((case.program.settings, case.program.rates))} == {3}
    assert case.runs.optimizer.name == case.settings.optimizer.name
    assert 1 + case.program.method.context <= 5  # "a photo of a" behind the beginning


def test_methods_without_steps_have_none():
    assert set(methods.METHODS) - set(cases.METHODS) == {"tip_adapter", "lpp", "linear_probe"}


NAMES = ["coop", *(pytest.param(name, marks=pytest.mark.slow) for name in cases.METHODS if name != "coop")]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", NAMES)
def test_a_worker_of_a_method_trains(name):
    worker = PackageWorker(Case(6, 2, image_size=32, method=name))
    assert worker.ready()["flops"] > 0
    before = jax.tree.map(np.asarray, worker.state.adapter)
    assert np.isfinite(worker.step("2")["loss"])
    assert int(worker.state.step[0, 0]) == 2
    moved = jax.tree.map(lambda one, other: np.abs(one - other).max(), before, worker.state.adapter)
    assert max(jax.tree.leaves(moved)) > 0
    assert worker.product()["seconds"] > 0
    assert worker.memory()["peak_bytes"] > 0


def test_workers_take_turns_and_one_that_ends_is_left_out():
    started = step.Workers(
        {
            "package": _speaker(0.5, SAID),
            "official": _speaker(3.0),
            "missing": [sys.executable, "-c", "raise SystemExit(2)"],
            "breaks": _speaker(1.0, ends=True),
        }
    )
    with started as workers:
        workers.wait()
        result = step.measure(Case(50, 4, method="mmrl"), workers, rounds=2, steps=3, evaluation=False)
    assert set(result["failed"]) == {"missing", "breaks"}
    text = step.describe(Case(50, 4, method="mmrl"), result)
    assert "500.00 ms/step" in text
    assert "2.00 times its FLOPs (by count)" in text  # 2 GFLOP, where products do 4 in half a second
    assert "official / package 6.00" in text
    assert "breaks: the worker ended with exit code 3" in text


def test_a_package_that_ends_is_an_error():
    with step.Workers({"package": _speaker(1.0, SAID, ends=True)}) as workers:
        workers.wait()
        with pytest.raises(step.WorkerError, match="exit code 3"):
            step.measure(Case(50, 4, method="mmrl"), workers, rounds=1, steps=1, evaluation=False)


def test_a_command_beside_knows_its_case():
    case = Case(500, 32, method="mmrl", dtype="bfloat16")
    found = step.commands(case, True, {"official": "run --of={method} '{dtype} x' {classes},{batch}"})
    assert list(found) == ["package", "official"]  # the PyTorch reference is DeAR's
    assert found["official"] == ["run", "--of=mmrl", "bfloat16 x", "500,32"]
    assert list(step.commands(Case(500, 32), True, {})) == ["package", "torch"]


def test_products_that_nothing_needs_do_not_count():
    @jax.jit
    def one(x):
        return x @ x, x @ (x + 1)

    def loop(x):
        return jax.lax.scan(lambda carry, _: (one(carry)[0], None), x, length=3)[0]

    assert product_flops(jax.make_jaxpr(loop)(jnp.ones((2, 2)))) == 3 * 2 * 2**3
