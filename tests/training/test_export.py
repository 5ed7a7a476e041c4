"""The train and evaluation steps leave JAX as portable programs (`jax.export`) for TPU, CUDA and CPU.

The shapes are those of a small CLIP; nothing but the CPU is needed. What runs on the CPU gives what the step gives.
"""

import jax
import numpy as np
import pytest

from dear_jax import main
from dear_jax.clip.checkpoints import architectures
from dear_jax.clip.split import Frozen
from dear_jax.methods.contract import Length
from dear_jax.parallel import sharding
from dear_jax.setup import programs as setup
from dear_jax.setup import recipes
from dear_jax.setup.plans import compile as plans
from dear_jax.setup.roles import NoRoleMaps
from dear_jax.tpu import planned as programs
from dear_jax.training import program as train_program
from dear_jax.training.program import Runs

CONFIG = ["--config=configs/base2new.py", "--config.dear.mask.pattern=open", "--config.seeds=1,2"]
SIZES = ["--config.compile.prompt_length=8", "--config.compile.classes=6", "--config.eval.batch_size=4"]
PLATFORMS = ("cpu", "tpu", "cuda")


@pytest.fixture
def config():
    return main.parse([*CONFIG, *SIZES])[0]


@pytest.fixture
def planned(monkeypatch, config, clip_config):
    """The programs of a run on one device, by name."""
    monkeypatch.setattr(architectures, "find", lambda name: clip_config)
    return {program.name: program for program in programs.plan_programs(plans.make_plan(config), jax.devices()[:1])}


@pytest.mark.parametrize("name", ["train step", "class prompts", "text features", "evaluation step"])
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_every_program_is_exported(planned, name, platform):
    program = planned[name]
    exported = jax.export.export(program.function, platforms=[platform])(*program.arguments)
    assert exported.platforms == (platform,)
    assert "stablehlo.dot_general" in exported.mlir_module()
    leaves = jax.tree.leaves(jax.eval_shape(program.function, *program.arguments))
    assert [leaf.shape for leaf in exported.out_avals] == [leaf.shape for leaf in leaves]


@pytest.mark.slow
def test_the_exported_train_step_gives_what_the_step_gives(planned, config, clip_config, clip_params):
    program = planned["train step"]
    exported = jax.export.export(program.function, platforms=PLATFORMS)(*program.arguments)

    config = recipes.resolve(config)
    plan, tower = plans.make_plan(config).training, clip_config.vision
    no_maps = NoRoleMaps(tower.layers, tower.heads)
    (run,) = setup.make_programs(plan.variants, plan.backbone, clip_config, no_maps)
    mesh, specs = sharding.make_layout(2, [1], config.train.batch_size, 6, jax.devices()[:1])
    token_ids = programs.stand_in_prompts(clip_config, 6, 8)
    frozen = Frozen(clip_params, run.method.split.encode_prompts(clip_params, token_ids))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, config.train.batch_size, 12, 12, 3), np.uint8)
    labels = rng.integers(0, 6, (2, config.train.batch_size)).astype(np.int32)
    arguments = (frozen, images, labels, run.settings, run.rates)

    runs = Runs((1, 2), config.train.batch_size, Length(10, 24), mesh, specs)

    def state():
        return train_program.initial_state(run, runs, clip_params, frozen.prompts)

    expected = train_program.make_step(run.method, runs, (2, 1))(state(), *arguments)
    found = exported.call(state(), *arguments)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)  # float32, compiled twice
