"""The job `compile`: the run's very programs, and what is said of them. libtpu is needed by the slow tests only."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys

import jax
import pytest

from dear_jax import main
from dear_jax.clip.checkpoints import architectures, weights
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.errors import UserError
from dear_jax.jobs import compile
from dear_jax.methods.contract import Length
from dear_jax.parallel import sharding
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import RoleMaps
from dear_jax.tpu import chips
from dear_jax.tpu import planned as programs
from dear_jax.tpu.chips import CHIPS
from dear_jax.tpu.program_cost import Collective, Cost
from dear_jax.training import program as train_program
from dear_jax.training.program import Runs
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"
JOB = [CONFIG, "--config.job=compile"]
COST = Cost(2e12, 4e12, 819e6, (Collective("all-reduce", 4, 1, 100, 200e6),), 0, ())
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


@pytest.fixture
def tiny(monkeypatch, clip_config):
    """A small architecture under the name of the default backbone, and CPU devices in place of TPUs."""
    monkeypatch.setattr(architectures, "find", lambda name: clip_config)
    monkeypatch.setattr(chips, "devices", lambda topology: jax.devices()[:4])
    return clip_config


def _plan(*flags, config=CONFIG):
    parsed, _, _ = main.parse([config, "--config.job=compile", "--config.dear.mask.pattern=open", *flags])
    return compile.make_plan(parsed)


def _tiny_plan(*flags):
    return _plan("--config.compile.prompt_length=8", *flags)


def test_the_train_step_is_lowered_as_the_run_lowers_it(tiny, clip_params):
    plan = _tiny_plan("--config.seeds=1,2")
    planned = programs.plan_programs(plan, jax.devices()[:4])[0]

    training = plan.training
    backbone = Backbone("embedded", tiny, clip_params, None, "")
    (program,) = make_programs(training.variants, training.backbone, tiny, RoleMaps(training.roles, backbone))
    batch_size = training.schedule.batch_size
    mesh, specs = sharding.make_layout(2, [1], batch_size, 20, jax.devices()[:4])
    params = sharding.place(clip_params, mesh, sharding.REPLICATED)
    runs = Runs((1, 2), batch_size, Length(10, 80), mesh, specs)
    program = program.spread(mesh.shape["data"], 0)
    arguments = train_program.arguments(program, runs, params, programs.stand_in_prompts(tiny, 20, 8))
    real = train_program.make_step(program.method, runs, (2, 1)).lower(*arguments)
    assert planned.times == 800
    assert planned.function.lower(*planned.arguments).as_text() == real.as_text()


@pytest.mark.slow
def test_the_job_on_devices_that_are_there(tiny, capsys, tmp_path):
    flags = ["--config.topology=v5e:2x2", "--config.seeds=1", "--config.dear.mask.pattern=open"]
    assert main.main([*JOB, *flags, "--config.compile.prompt_length=8", f"--workdir={tmp_path}"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for line in (
        "chips 4 of 4 (v5e:2x2), run 1 x data 4",
        "executions 800",
        "Evaluation step",
        "bound by",
        "chip hours",
    ):
        assert line in output, line
    result = json.loads((tmp_path / compile.RESULT).read_text())
    names = [account["name"] for account in result["programs"]]
    assert names == ["train step", "class prompts", "text features", "evaluation step"]
    step, *_, evaluation = result["programs"]
    # The text tower is computed by every device, images are shared out: between 1 and 4 times the work.
    assert 1 < step["chips"] * step["flops"] / step["flops_asked"] < 4
    assert evaluation["chips"] * evaluation["flops"] == pytest.approx(evaluation["flops_asked"], rel=0.05)


def test_sizes_come_from_the_keys_or_the_data_set():
    assert programs.count(_plan()) == programs.Sizes(20, 4, 800, 20, 2)
    assert programs.count(_plan(config=f"{CONFIG}:imagenet")) == programs.Sizes(500, 32, 5 * 250, 500, 2)
    assert programs.count(_plan("--config.compile.classes=1000")).classes == 1000
    assert programs.count(_plan("--config.train.batch_size=1000"))[1:3] == (320, 10)  # all images make one batch


def test_what_cannot_be_is_refused(tiny):
    with pytest.raises(UserError, match=r"prompt_length is 99: expected 6 to 20"):
        programs.describe_backbone(_plan("--config.compile.prompt_length=99"))


def test_a_dry_run_says_what_would_be_compiled(capsys):
    assert main.main([f"{CONFIG}:imagenet", "--dry_run", "--config.job=compile", "--config.topology=v5e:8x8"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    for line in (
        "topology v5e:8x8",
        "memory of a chip 16.00 GiB",
        "backbone openai/clip-vit-base-patch16",
        "classes 500 trained on, prompts of 10 ids",
        "steps 1,250 of 32 images for each of 3 seeds",
        "No problem found.",
    ):
        assert line in output, line
    flags = ["--config.topology=v5e:9x9", "--config.backbone=my/clip"]
    assert main.main([*JOB, "--dry_run", *flags]) == 2
    message = capsys.readouterr().err
    assert "2 problems found" in message
    assert "1. config.topology is 'v5e:9x9'" in message
    assert "2. " in message
    assert "my/clip" in message.split("2. ")[1]
    assert main.main([*JOB, "--dry_run", "--config.compile.prompt_length=1"]) == 2
    assert "config.compile.prompt_length is 1, expected 3 to 1,000" in capsys.readouterr().err


def test_an_unknown_topology_is_answered_before_anything_else(capsys, tmp_path):
    assert main.main([*JOB, "--config.topology=v5e:3x3", f"--workdir={tmp_path / 'run'}"]) == 2
    assert "v5e:8x8" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_bound_is_the_slowest_of_three():
    chip = dataclasses.replace(CHIPS["v5e"], flops=4e12, links=4e6)
    found = compile.bound(COST, chip)
    assert found["seconds"] == pytest.approx({"products": 1.0, "memory": 1e-3, "collectives": 100.0})
    assert (found["bound_seconds"], found["bound_by"], found["matrix_units"]) == (100.0, "collectives", 0.01)
    assert found["matrix_units_estimated"] is None
    # 8e6 cycles, at 1e6 FLOPs each in a large product: the 4e12 are half of what they could have been.
    estimated = compile.bound(dataclasses.replace(COST, cycles=8e6), dataclasses.replace(chip, cycle_flops=1e6))
    assert (estimated["matrix_units_estimated"], estimated["estimated_seconds"]) == (0.5, 2.0)


def test_a_run_costs_its_executions_on_the_chips_that_are_booked():
    account = {"refused": "", "times": 3, "bound_seconds": 2.0, "estimated_seconds": None}
    assert compile.total([account, account], 64)["seconds"] == 12.0
    assert compile.total([account, account | {"times": 0}], 64)["seconds"] is None
    assert compile.total([account, account | {"refused": "needs more"}], 64)["seconds"] is None


class Refused:
    """A program that the compiler does not take."""

    jaxpr = jax.make_jaxpr(lambda x: x)(1.0)

    def trace(self, *arguments):
        return self

    def lower(self):
        return self

    def compile(self):
        raise jax.errors.JaxRuntimeError(
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (23.50G) "
            "exceeds available HBM (15.75G)."
        )


def test_what_does_not_fit_is_a_message(tiny, capsys, monkeypatch, tmp_path):
    planned = programs.plan_programs(_tiny_plan(), jax.devices()[:4])[0]
    refused = planned._replace(function=Refused(), in_chunks=None)
    for one in (refused, planned._replace(in_chunks=lambda chunk: refused)):
        monkeypatch.setattr(compile, "plan_programs", lambda plan, devices, one=one: [one])
        assert main.main([*JOB, "--config.topology=v5e:2x2", f"--workdir={tmp_path}"]) == 2
        message = capsys.readouterr().err
        assert "The train step needs 23.50 GiB of each chip, which has 16.00 GiB, of which a run plans with" in message
        assert "80%: train fewer seeds" in message


def test_class_prompts_are_taken_in_chunks_where_the_run_would(tiny):
    planned = programs.plan_programs(_tiny_plan("--config.seeds=1"), jax.devices()[:4])[0]
    assert (planned.classes, dict(planned.mesh.shape)) == (5, {"run": 1, "data": 4})

    def in_chunks(chunk):
        """The step does not fit; in chunks another program, which is compiled in no time, stands for it."""
        function, arguments = (jax.jit(lambda x: x + 1), (1.0,)) if chunk else (Refused(), ())
        return planned.in_chunks(chunk)._replace(function=function, arguments=arguments)

    account = compile.compile_fitting(planned._replace(in_chunks=in_chunks), CHIPS["v5e"], 4)
    assert (account["class_chunk"], account["refused"]) == (3, "")


def test_other_refusals_are_explained_or_raised():
    words = "INTERNAL: RET_CHECK failure: device assignment should include all slice devices"
    assert "work for 32 chips only, and the 64 chips" in compile.explain_refusal(words, 32, 64, CHIPS["v5e"])
    other = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 23.50G of 15.75G hbm."
    assert "needs 23.50 GiB of each chip" in compile.explain_refusal(other, 4, 4, CHIPS["v5e"])
    assert compile.explain_refusal("INTERNAL: a bug", 4, 4, CHIPS["v5e"]) is None


@pytest.mark.slow
@pytest.mark.timeout(1200)
@needs_libtpu
def test_the_job_with_the_compiler_of_tpus(tmp_path):
    command = [sys.executable, "-m", "dear_jax.main", *JOB, "--config.topology=v5e:2x2", f"--workdir={tmp_path}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    step = json.loads((tmp_path / compile.RESULT).read_text())["programs"][0]
    assert step["unknown_loops"] == []
    assert step["cycles"] > 0
    assert step["memory"]["peak"] < CHIPS["v5e"].memory
    assert 1 < step["chips"] * step["flops"] / step["flops_asked"] < 4
    assert [c["kind"] for c in step["collectives"]] == ["all-reduce"]


LARGE_PRODUCT = """
import jax, jax.numpy as jnp, sys
from jax.sharding import SingleDeviceSharding
from dear_jax.tpu import chips, program_cost
name = sys.argv[1]
device = chips.devices(f"{name}:{chips.CHIPS[name].shapes[1]}")[0]
shape = jax.ShapeDtypeStruct((8192, 8192), jnp.bfloat16, sharding=SingleDeviceSharding(device))
cost = program_cost.measure(jax.jit(jnp.dot).lower(shape, shape).compile().as_text())
assert cost.flops == 2 * 8192**3, cost
print(cost.flops / cost.cycles)
"""


TOO_LARGE = """
import jax, jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
from dear_jax.jobs import compile
from dear_jax.tpu import chips
device = chips.devices("v5e:2x2")[0]
shape = jax.ShapeDtypeStruct((5 * 2**20, 1024), jnp.float32, sharding=SingleDeviceSharding(device))
try:
    jax.jit(lambda x: x + 1).lower(shape).compile()
except jax.errors.JaxRuntimeError as error:
    print(compile.explain_refusal(str(error), 1, 1, chips.CHIPS["v5e"]))
"""


@pytest.mark.slow
@needs_libtpu
def test_the_compilers_own_words_on_memory_are_understood():
    done = subprocess.run([sys.executable, "-c", TOO_LARGE], cwd=REPOSITORY, capture_output=True, text=True)
    assert "needs 40.00 GiB of each chip, which has 16.00 GiB" in done.stdout


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize("name", CHIPS)
def test_the_yardstick_is_a_large_product(name):
    done = subprocess.run([sys.executable, "-c", LARGE_PRODUCT, name], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(CHIPS[name].cycle_flops, rel=0.01)


@pytest.mark.slow
@needs_libtpu
def test_libtpu_leaves_ordinary_runs_on_the_cpu():
    environment = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"}
    code = (
        "from dear_jax import main, session; config = main.parse(['--config=configs/base2new.py'])[0]; "
        "session.set_up(config); import jax; "
    )
    command = [sys.executable, "-c", code + "print(jax.default_backend())"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("cpu", "")


def test_shapes_stand_for_the_parameters_of_a_backbone(clip_config, clip_params):
    cast = jax.eval_shape(lambda params: weights.cast(params, jax.numpy.bfloat16), weights.shapes(clip_config))
    real = weights.cast(clip_params, jax.numpy.bfloat16)
    assert jax.tree.map(lambda leaf: leaf.dtype, cast) == jax.tree.map(lambda leaf: leaf.dtype, real)
