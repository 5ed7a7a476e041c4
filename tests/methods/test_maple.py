"""MaPLe against what the official module gave, and in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.split import Frozen, Prompts, Split
from dear_jax.errors import UserError
from dear_jax.methods.maple import MaPLe, Settings
from dear_jax.setup import methods as rows
from dear_jax.setup.methods import maple
from tests.methods import golden

PROMPTS = ("ctx", "compound_prompts_text.0", "compound_prompts_text.1")
MAPS = ("proj", "compound_prompt_projections.0", "compound_prompt_projections.1")


def official():
    kernels = [golden.adapter(f"maple.{name}.weight", 768, 512, std=512**-0.5).T for name in MAPS]
    return {
        "prompts": jnp.stack([golden.adapter(f"maple.{name}", 2, 512, std=0.3) for name in PROMPTS]),
        "kernel": jnp.stack(kernels),
        "bias": jnp.stack([golden.adapter(f"maple.{name}.bias", 768, std=0.02) for name in MAPS]),
    }


@pytest.fixture(scope="module")
def method():
    return MaPLe(Split(golden.backbone()[0], 1, 1), depth=3)


@pytest.fixture(scope="module")
def found(method):
    return golden.call(method, official(), Settings(), golden.token_ids())


@pytest.mark.slow
def test_logits_and_loss_are_those_of_the_official_module(found):
    logits, loss, _, gradient = found
    expected = [[-11.4806, -10.8910, -13.8059], [-3.7907, -7.6317, -9.6238]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 3.166330, atol=1e-5)
    norms = [np.linalg.norm(block) for block in gradient["prompts"]]
    np.testing.assert_allclose(norms, [3.4064, 2.7857, 3.0498], rtol=1e-3)


@pytest.mark.slow
def test_gradients_are_the_official_ones(found):
    gradient, file = found[3], golden.read("maple")
    for i, (prompt, layer) in enumerate(zip(PROMPTS, MAPS, strict=True)):
        golden.check_gradient(gradient["prompts"][i], file[f"grad.{prompt}"], prompt)
        golden.check_gradient(gradient["bias"][i], file[f"grad.{layer}.bias"], layer)
        norm = np.linalg.norm(gradient["kernel"][i])
        np.testing.assert_allclose(norm, file[f"gradnorm.{layer}.weight"], rtol=1e-3)


@pytest.mark.slow
def test_at_depth_one_the_words_leave_the_text_features_as_they_are(method):
    _, params = golden.backbone()
    one = MaPLe(method.split, depth=1)
    prompts = one.encode_prompts(params, golden.token_ids())
    adapter = one.init(jax.random.key(0), params, prompts, None)
    classes = jax.jit(one.classes)(adapter, Settings(), Frozen(params, prompts))
    np.testing.assert_allclose(classes, prompts.features, atol=1e-6)


def test_the_maps_of_the_deeper_blocks_start_as_copies_of_one(clip_config, clip_params):
    method = MaPLe(Split(clip_config, 1, 1), depth=3)
    prompts = Prompts(None, None, None, None, np.asarray([[48, 3, 4, 5, 6, 7, 49]], np.int32))
    adapter = method.init(jax.random.key(0), clip_params, prompts, None)
    words = clip_params["text_model"]["embeddings"]["token_embedding"]["embedding"][[3, 4]]
    np.testing.assert_array_equal(adapter["prompts"][0], words)
    for leaf in (adapter["kernel"], adapter["bias"]):
        np.testing.assert_array_equal(leaf[1], leaf[2])
        assert (np.asarray(leaf[0]) != np.asarray(leaf[1])).all()
        assert np.abs(leaf).max() <= clip_config.text.width**-0.5


@pytest.mark.slow
def test_plain_clip_does_not_run_where_nothing_reads_it(clip_config, clip_params):
    method = MaPLe(Split(clip_config, 1, 1), depth=3)
    ids = np.asarray([[48, 1, 2, 7, 49, 0], [48, 1, 2, 8, 9, 49]], np.int32)
    frozen = Frozen(clip_params, method.encode_prompts(clip_params, ids))
    adapter = method.init(jax.random.key(0), clip_params, frozen.prompts, None)
    size = clip_config.image_size
    images, labels = jnp.zeros((2, size, size, 3), jnp.uint8), jnp.zeros(2, jnp.int32)

    def flops(look):
        def loss(adapter, images):
            return method.loss(adapter, Settings(), frozen, look(clip_params, images), labels)[0]

        return jax.jit(jax.grad(loss)).lower(adapter, images).compile().cost_analysis()["flops"]

    def prefix(params, images):
        return method.split.look(params, images)._replace(features=None)

    def both(params, images):
        seen = method.split.look(params, images)
        return seen._replace(prefix=seen.prefix + 0 * seen.features.sum())

    assert flops(method.split.look) == flops(prefix) < flops(both)


@pytest.mark.parametrize(
    ("protocol", "dataset", "count"), [("base2new", "dtd", 3_555_072), ("cross_dataset", "imagenet", 1_185_024)]
)
def test_as_many_numbers_as_published_are_learned(protocol, dataset, count):
    assert golden.count_parameters("maple", dataset, protocol) == count


def test_its_recipe_goes_by_protocol():
    def of(protocol):
        recipe = rows.METHODS["maple"].recipe(protocol, "imagenet", 16)
        return recipe["optimizer.learning_rate"], recipe["train.epochs"], recipe["maple.default_depth"]

    assert of("base2new") == (0.0035, 5, 9)
    assert of("cross_dataset") == of("domain_generalization") == (0.0026, 2, 3)


def options(**changes):
    return maple.Options(**{"default_depth": 9} | changes)


def test_its_depth_is_that_of_the_shallower_tower_where_that_has_fewer_blocks(clip_config):
    assert maple.build(options(), clip_config, jnp.float32).depth == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 4}, "config.maple.depth is 4: expected 1 to 3, the layers of the backbone"),
        ({"tokens": 17}, "config.maple.tokens is 17: expected 1 to 16"),
    ],
)
def test_what_the_backbone_has_no_room_for_is_refused(changes, message, clip_config):
    with pytest.raises(UserError, match=message):
        maple.build(options(**changes), clip_config, jnp.float32)


@pytest.mark.parametrize("changes", [{"tokens": 0}, {"default_depth": 0}])
def test_values_out_of_range_are_named(changes):
    assert maple.problems(options(**changes)).keys() == changes.keys()
