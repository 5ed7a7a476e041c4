"""CoCoOp against what the official module gave."""

import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.split import Split
from dear_jax.errors import UserError
from dear_jax.methods.cocoop import CoCoOp, Settings
from dear_jax.methods.coop import CoOp
from dear_jax.setup import methods as rows
from dear_jax.setup.methods import cocoop
from tests.methods import golden


def official():
    learned = {"context": golden.adapter("cocoop.ctx", 4, 512, std=0.3)}
    for number, (inputs, outputs) in enumerate([(512, 32), (32, 512)], start=1):
        name = f"cocoop.linear{number}"
        learned[f"meta_kernel_{number}"] = golden.adapter(f"{name}.weight", outputs, inputs, std=inputs**-0.5).T
        learned[f"meta_bias_{number}"] = golden.adapter(f"{name}.bias", outputs, std=0.02)
    return learned


@pytest.fixture(scope="module")
def split():
    config, _ = golden.backbone()
    return Split(config, config.vision.layers, 1)


@pytest.fixture(scope="module")
def found(split):
    return golden.call(CoCoOp(split), official(), Settings(), golden.token_ids())


@pytest.mark.slow
def test_logits_and_loss_are_those_of_the_official_module(found):
    logits, loss, _, _ = found
    expected = [[0.5846, -1.2088, -4.0077], [4.1420, 1.0616, -1.8945]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 4.019831, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_the_official_ones(found):
    gradient, file = found[3], golden.read("cocoop")
    golden.check_gradient(gradient["context"], file["grad.ctx"], "ctx")
    for number in (1, 2):
        name = f"grad.meta_net.linear{number}"
        golden.check_gradient(gradient[f"meta_kernel_{number}"].T, file[f"{name}.weight"], name)
        golden.check_gradient(gradient[f"meta_bias_{number}"], file[f"{name}.bias"], name)


@pytest.mark.slow
def test_a_network_that_gives_nothing_leaves_coop(split, found):
    silent = {name: jnp.zeros_like(leaf) for name, leaf in official().items() if name.endswith("_2")}
    learned = official()
    logits, loss, *_ = golden.call(CoCoOp(split), learned | silent, Settings(), golden.token_ids())
    expected = golden.call(CoOp(split), {"context": learned["context"]}, Settings(), golden.token_ids())
    np.testing.assert_allclose(logits, expected[0], atol=2e-5)
    np.testing.assert_allclose(loss, expected[1], atol=1e-5)
    assert np.abs(logits - found[0]).max() > 0.1


def test_as_many_numbers_as_published_are_learned():
    assert golden.count_parameters("cocoop", "dtd") == 35_360


def test_its_recipe_takes_one_image_at_a_time():
    for protocol in ("base2new", "cross_dataset"):
        recipe = rows.METHODS["cocoop"].recipe(protocol, "imagenet", 16)
        assert (recipe["train.batch_size"], recipe["train.epochs"], recipe["optimizer.name"]) == (1, 10, "sgd")
        assert "remark" not in recipe
    assert "no published few-shot recipe" in rows.METHODS["cocoop"].recipe("few_shot", "dtd", 16)["remark"]


def test_words_and_tokens_must_agree():
    assert cocoop.problems(cocoop.Options()) == {}
    assert set(cocoop.problems(cocoop.Options(tokens=16))) == {"words"}
    assert cocoop.problems(cocoop.Options(tokens=16, words="")) == {}


def test_there_is_nothing_to_retrieve_by(clip_config):
    method = cocoop.build(cocoop.Options(), clip_config, np.float32)
    with pytest.raises(UserError, match="CoCoOp learns no features of images"):
        method.features({}, Settings(), {}, None)
