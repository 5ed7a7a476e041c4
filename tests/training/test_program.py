"""The step of all runs is compiled once, ahead of time, with the class prompts in chunks where memory asks for it."""

import jax
import numpy as np
import pytest

from dear_jax import main
from dear_jax.errors import UserError
from dear_jax.methods.contract import Length
from dear_jax.parallel import sharding
from dear_jax.setup import programs as setup
from dear_jax.setup.plans import train
from dear_jax.setup.roles import NoRoleMaps
from dear_jax.tpu import planned as programs
from dear_jax.training import program as train_program
from dear_jax.training.program import Runs

pytestmark = pytest.mark.usefixtures("compilation_cache")
CONFIG = ["--config=configs/base2new.py", "--config.dear.mask.pattern=open", "--config.seeds=1,2"]
CLASSES = 60


@pytest.fixture(scope="module")
def fit(clip_config, clip_params):
    """The step, given the bytes of a device and the class chunk that a user set."""
    plan, tower = train.make_plan(main.parse(CONFIG)[0]), clip_config.vision
    no_maps = NoRoleMaps(tower.layers, tower.heads)
    (program,) = setup.make_programs(plan.variants, plan.backbone, clip_config, no_maps)
    mesh, specs = sharding.make_layout(2, [1], 4, CLASSES, jax.devices()[:1])
    runs = Runs((1, 2), 4, Length(10, 24), mesh, specs)
    token_ids = programs.stand_in_prompts(clip_config, CLASSES, 14)
    params = sharding.place_backbone(clip_params, mesh, shard=False)

    def compile(memory, chunk=0):
        return train_program.compile_fitting(program.spread(1, chunk), runs, params, token_ids, memory)

    return compile


def test_memory_decides_the_chunk(fit):
    whole = fit(memory=2**40)
    assert whole.program.method.split.class_chunk == 0
    less = fit(memory=1.2 * whole.bytes)  # of which the step may take 80 %
    assert 0 < less.program.method.split.class_chunk <= CLASSES / 2
    assert less.bytes < 0.8 * 1.2 * whole.bytes


@pytest.mark.slow
def test_a_chunk_that_a_user_set_is_kept(fit):
    kept = fit(memory=2**40, chunk=20)
    assert kept.program.method.split.class_chunk == 20
    assert fit(memory=kept.bytes, chunk=20).program.method.split.class_chunk == 20
    with pytest.raises(UserError, match="even with 20 class prompts at a time"):
        fit(memory=kept.bytes - 1, chunk=20)


def test_the_step_takes_what_was_described_and_reuses_the_states_memory(fit, clip_params):
    compiled = fit(memory=2**40)
    state, frozen, images, labels, *others = jax.tree.map(
        lambda leaf: np.ones(leaf.shape, leaf.dtype), compiled.step.in_avals[0]
    )
    before = jax.device_put(state, jax.devices()[0])
    state, metrics = compiled.step(before, frozen._replace(params=clip_params), images, labels, *others)
    assert metrics["loss"].shape == (2, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    np.testing.assert_array_equal(state.step, 2)
