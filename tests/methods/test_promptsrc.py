"""PromptSRC against what the official module gave, and in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dear_jax.clip.split import Frozen, Prompts, Split
from dear_jax.data.templates import IMAGENET_60
from dear_jax.errors import UserError
from dear_jax.methods.contract import Length, Targets
from dear_jax.methods.promptsrc import PromptSRC, Settings, epoch_weights
from dear_jax.setup import methods as rows
from dear_jax.setup.methods import promptsrc
from dear_jax.tpu.flops import product_flops
from dear_jax.training import step
from dear_jax.training.optimizer import Optimizer, Rates
from tests.methods import golden

WEIGHTS = Settings(jnp.float32(25), jnp.float32(10), jnp.float32(1))
# Leaf -> the official name of each block's prompts, and their width.
NAMES = {"text": (("ctx", "transformer"), 512), "vision": (("visual.VPT", "visual.transformer"), 768)}


def official():
    learned = {}
    for leaf, ((first, tower), width) in NAMES.items():
        names = [first, *(f"{tower}.resblocks.{i}.VPT_shallow" for i in (1, 2))]
        learned[leaf] = jnp.stack([golden.adapter(f"promptsrc.{name}", 4, width, std=0.3) for name in names])
    return learned


@pytest.fixture(scope="module")
def golden_method():
    return PromptSRC(Split(golden.backbone()[0], 1, 1), text_depth=3, vision_depth=3)


@pytest.fixture(scope="module")
def method(clip_config):
    return PromptSRC(Split(clip_config, 1, 1), text_depth=3, vision_depth=3)


@pytest.fixture(scope="module")
def found(golden_method):
    return golden.call(golden_method, official(), WEIGHTS, golden.token_ids(), golden.array("promptsrc", "frozen_text"))


@pytest.mark.slow
def test_logits_and_losses_are_those_of_the_official_module(found):
    logits, loss, parts, _ = found
    expected = [[-5.3341, -6.6700, -6.7157], [-3.4211, -6.0341, -7.7471]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 4.178017, atol=1e-5)
    weighted = [parts["cross_entropy"], 25 * parts["text_distance"], 10 * parts["image_distance"], parts["divergence"]]
    np.testing.assert_allclose(weighted, [3.079804, 0.808203, 0.223760, 0.066250], atol=1e-5)


@pytest.mark.slow
def test_gradients_are_the_official_ones(found):
    gradient, file = found[3], golden.read("promptsrc")
    firsts = {"text": "prompt_learner.ctx", "vision": "image_encoder.VPT"}
    for leaf, encoder in (("text", "text_encoder"), ("vision", "image_encoder")):
        names = [firsts[leaf], *(f"{encoder}.transformer.resblocks.{i}.VPT_shallow" for i in (1, 2))]
        for block, name in zip(gradient[leaf], names, strict=True):
            golden.check_gradient(block, file[f"grad.{name}"], name)


@pytest.mark.slow
def test_the_text_prompts_start_as_the_words(golden_method):
    """Prompts that are the words themselves, and enter one block alone, leave the text features as they are."""
    _, params = golden.backbone()
    prompts = golden_method.encode_prompts(params, golden.token_ids())
    one = PromptSRC(golden_method.split, text_depth=1, vision_depth=1)
    adapter = one.init(jax.random.key(0), params, prompts, None)
    frozen = Frozen(params, prompts)
    classes = jax.jit(one.classes)(adapter, WEIGHTS, frozen)
    np.testing.assert_allclose(classes, prompts.features, atol=1e-6)
    deeper = golden_method.init(jax.random.key(0), params, prompts, None)
    np.testing.assert_array_equal(deeper["text"][0], adapter["text"][0])
    assert np.abs(np.asarray(deeper["text"][1:])).max() < 0.2


def test_more_prompts_than_words_start_at_random(clip_config, clip_params):
    method = PromptSRC(Split(clip_config, 1, 1), text_count=5, text_depth=2, vision_depth=2)
    assert method.prompt("dtd", "{} texture.") == "X X X X X {}."
    assert PromptSRC(method.split).prompt("dtd", "{} texture.") == "a photo of a {}."
    prompts = Prompts(None, None, None, None, np.asarray([[48, 3, 3, 3, 3, 3, 7, 49]], np.int32))
    adapter = method.init(jax.random.key(0), clip_params, prompts, None)
    for leaf in adapter.values():
        np.testing.assert_allclose(np.std(leaf), 0.02, rtol=0.2)


def test_it_is_held_near_the_mean_of_60_templates_as_they_come(method):
    assert method.targets("dtd", ("{} texture.",)) == Targets(IMAGENET_60, unit_mean=False)
    plain = PromptSRC(method.split, diverse_text=False)
    assert plain.targets("dtd", ("{} texture.",)) == Targets(("{} texture.",), unit_mean=False)
    assert plain.reading != PromptSRC(method.split).reading


def test_epochs_weigh_as_their_gaussian_says():
    expected = [0.053991, 0.241971, 0.398942, 0.241971, 0.053991, 0.004432]
    np.testing.assert_allclose(epoch_weights(20, 15, 1)[12:18], expected, atol=1e-6)
    np.testing.assert_allclose(epoch_weights(4, 2, 1e6), 0.25, rtol=1e-6)
    for weights in (epoch_weights(20, 15, 1), epoch_weights(50, 45, 5), epoch_weights(2, 90, 1)):
        np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("length", "ends"),
    [(Length(3, 2), (2, 4, 6)), (Length(3, 2, 5), (2, 4, 5)), (Length(2, 1), (1, 2))],
)
def test_what_is_learned_is_the_average_over_the_ends_of_epochs(method, length, ends):
    adapters = np.random.default_rng(0).normal(size=(length.steps, 2, 3)).astype(np.float32)
    one = PromptSRC(method.split, average_mean=2, average_std=1.5)
    carried = one.begin({"text": jnp.asarray(adapters[0])}, jax.random.key(0))
    for number, adapter in enumerate(adapters, start=1):
        adapter = {"text": jnp.asarray(adapter)}
        carried = jax.jit(one.carry, static_argnums=3)(carried, adapter, jnp.int32(number), length)
    density = np.exp(-0.5 * ((np.arange(1, len(ends) + 1) - 2) / 1.5) ** 2)
    expected = np.tensordot(density / density.sum(), adapters[np.asarray(ends) - 1], axes=1)
    np.testing.assert_allclose(one.finish(adapter, carried)["text"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_variants_share_what_plain_clip_makes_of_an_image(method, clip_params):
    """Another variant costs the learned towers once more, and plain CLIP not at all."""
    split, length = method.split, Length(1, 1)
    optimizer, ids = Optimizer("sgd"), np.asarray([[48, 1, 2, 3, 4, 7, 49, 0], [48, 1, 2, 3, 4, 8, 9, 49]], np.int32)
    frozen = Frozen(clip_params, split.encode_prompts(clip_params, ids))
    size = split.config.image_size
    images, labels = jax.ShapeDtypeStruct((1, 2, size, size, 3), jnp.uint8), jax.ShapeDtypeStruct((1, 2), jnp.int32)
    adapter = method.adapter_like(clip_params, len(ids), None)

    def products(variants):
        settings, rates = jax.tree.map(lambda one: jnp.full(variants, one), (WEIGHTS, Rates(*[jnp.float32(0)] * 4)))
        rule = optimizer.make(Rates(*[jnp.float32(0)] * 4), length)
        one = jax.eval_shape(lambda adapter: step.create_state(adapter, adapter, rule), adapter)
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, variants, *leaf.shape), leaf.dtype), one)
        run = functools.partial(step.train_runs, jax.vmap, method, optimizer, length)
        return product_flops(jax.jit(run).trace(state, frozen, images, labels, settings, rates).jaxpr)

    of_seed = jax.ShapeDtypeStruct(images.shape[1:], jnp.uint8)
    plain = product_flops(jax.jit(split.look).trace(clip_params, of_seed).jaxpr)
    one, two, three = map(products, (1, 2, 3))
    assert three - two == two - one
    assert one - (two - one) >= plain


def test_without_the_average_it_is_what_the_last_step_left(method):
    one, adapter = PromptSRC(method.split, average=False), {"text": jnp.ones((1, 2))}
    carried = one.carry(one.begin(adapter, jax.random.key(0)), adapter, jnp.int32(1), Length(1, 1))
    assert carried == ()
    assert one.finish(adapter, carried) is adapter


@pytest.mark.parametrize(("protocol", "dataset", "count"), [("base2new", "dtd", 46_080)])
def test_as_many_numbers_as_published_are_learned(protocol, dataset, count):
    assert golden.count_parameters("promptsrc", dataset, protocol) == count


def test_transfers_are_three_blocks_deep():
    assert golden.count_parameters("promptsrc", "imagenet", "cross_dataset") == 15_360


def test_its_recipe_goes_by_protocol_and_data_set():
    def of(protocol, dataset):
        recipe = rows.METHODS["promptsrc"].recipe(protocol, dataset, 16)
        return recipe["train.epochs"], recipe["promptsrc.average_mean"], recipe["promptsrc.average_std"]

    assert of("base2new", "eurosat") == (20, 15, 1)
    assert of("few_shot", "imagenet") == of("few_shot", "sun397") == (50, 30, 30)
    assert of("few_shot", "eurosat") == of("few_shot", "stanford_cars") == (50, 45, 5)
    assert of("cross_dataset", "imagenet") == of("domain_generalization", "imagenet") == (20, 6, 10)
    assert rows.METHODS["promptsrc"].recipe("base2new", "dtd", 16)["data.crop_scale"] == (0.08, 1.0)


def options(**changes):
    return promptsrc.Options(**{"default_depth": 9, "average_mean": 15.0, "average_std": 1.0} | changes)


def test_its_depth_is_that_of_the_tower_where_it_has_fewer_blocks(clip_config):
    method = promptsrc.build(options(text_depth=2), clip_config, jnp.float32)
    assert (method.text_depth, method.vision_depth) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_depth": 4}, "config.promptsrc.text_depth is 4: expected 1 to 3, the layers of the backbone"),
        ({"vision_depth": 0}, "config.promptsrc.vision_depth is 0: expected 1 to 3, the layers of the backbone"),
        ({"text_tokens": 17}, "config.promptsrc.text_tokens is 17: expected 1 to 16"),
    ],
)
def test_what_the_backbone_has_no_room_for_is_refused(changes, message, clip_config):
    with pytest.raises(UserError, match=message):
        promptsrc.build(options(**changes), clip_config, jnp.float32)


@pytest.mark.parametrize(
    "changes", [{"text_tokens": 0}, {"vision_tokens": 0}, {"text_weight": -1.0}, {"average_std": 0.0}]
)
def test_values_out_of_range_are_named(changes):
    assert promptsrc.problems(options(**changes)).keys() == changes.keys()
