"""TCP against what the official module gave."""

import dataclasses

import numpy as np
import pytest

from dear_jax.clip.split import Split
from dear_jax.methods.tcp import TCP, Settings
from dear_jax.setup import methods as rows
from dear_jax.setup.methods import tcp
from tests.methods import golden

BLOCKS = 10  # tokens of each class enter before the ninth, as in the official code whatever the depth


def official():
    learned = {"context": golden.adapter("tcp.ctx", 4, 512, std=0.3)}
    for number, (inputs, outputs) in enumerate([(512, 128), (128, 2048)], start=1):
        name = f"tcp.meta_net.linear{number}"
        learned[f"meta_kernel_{number}"] = golden.adapter(f"{name}.weight", outputs, inputs, std=inputs**-0.5).T
        learned[f"meta_bias_{number}"] = golden.adapter(f"{name}.bias", outputs, std=0.02)
    return learned


@pytest.fixture(scope="module")
def found():
    config, params = golden.backbone(BLOCKS)
    split = Split(config, config.vision.layers, 1)
    plain = split.encode_prompts(params, golden.token_ids()).features  # "a photo of a NAME."
    settings, ids = Settings(np.float32(8)), golden.token_ids((343,) * 4)
    return golden.call(TCP(split, 4, 9), official(), settings, ids, plain, BLOCKS), plain


@pytest.mark.slow
def test_logits_and_loss_are_those_of_the_official_module(found):
    (logits, loss, parts, _), _ = found
    expected = [[-0.2268, -2.7040, -3.0276], [-4.2806, -6.1859, -7.0710]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 4.494448, atol=1e-5)
    np.testing.assert_allclose(parts["cross_entropy"], 2.796719, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_the_official_ones(found):
    (_, _, _, gradient), plain = found
    file = golden.read("tcp")
    np.testing.assert_allclose(plain, file["frozen_text"], atol=1e-6)
    golden.check_gradient(gradient["context"], file["grad.ctx"], "ctx")
    for number in (1, 2):
        name = f"meta_net.linear{number}"
        golden.check_gradient(gradient[f"meta_bias_{number}"], file[f"grad.{name}.bias"], name)
        norm = np.linalg.norm(gradient[f"meta_kernel_{number}"])
        np.testing.assert_allclose(norm, file[f"gradnorm.{name}.weight"], rtol=1e-3)


def test_as_many_numbers_as_published_are_learned():
    assert golden.count_parameters("tcp", "dtd") == 331_904


def test_the_recipe_has_its_large_epsilon():
    recipe = rows.METHODS["tcp"].recipe("base2new", "dtd", 16)
    assert (recipe["optimizer.name"], recipe["optimizer.epsilon"], recipe["optimizer.learning_rate"]) == (
        "adam",
        1e-3,
        2e-3,
    )
    assert (recipe["train.epochs"], recipe["train.batch_size"], recipe["data.crop_scale"]) == (50, 32, (0.08, 1.0))


@pytest.mark.parametrize(("depth", "layer"), [(12, 9), (24, 17), (3, 3), (2, 2), (1, 1)])
def test_tokens_of_each_class_enter_after_two_thirds_of_the_blocks(clip_config, depth, layer):
    config = dataclasses.replace(clip_config, text=dataclasses.replace(clip_config.text, layers=depth))
    assert tcp.build(tcp.Options(), config, np.float32).layer == layer


@pytest.mark.parametrize(
    ("dataset", "prompt", "target"),
    [
        ("oxford_pets", "X X X X {}, a type of pet.", "OWN"),
        ("fgvc_aircraft", "X X X X {}, a type of aircraft.", "a photo of an aircraft {}."),
        ("dtd", "X X X X {} texture.", "a photo of a {}, a type of texture."),
        ("stanford_cars", "X X X X {}, a type of car", "OWN"),
        ("food101", "X X X X {}, a type of food.", "a photo of a {}, a type of food."),
        ("ucf101", "X X X X person doing {}.", "OWN"),
        ("imagenet", "X X X X {}.", "OWN"),
        ("world_objects", "X X X X {}.", "OWN"),
    ],
)
def test_each_data_set_has_its_prompts(clip_config, dataset, prompt, target):
    method = tcp.build(tcp.Options(), clip_config, np.float32)
    assert method.prompt(dataset, "OWN") == prompt
    assert method.targets(dataset, ("OWN",)).templates == (target,)


def test_values_out_of_range_are_named():
    assert tcp.problems(tcp.Options()) == {}
    assert set(tcp.problems(tcp.Options(tokens=0, reg=-1.0))) == {"tokens", "reg"}
