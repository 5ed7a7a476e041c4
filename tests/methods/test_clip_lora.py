"""CLIP-LoRA against what the official module gave, in closed form, and what it drops in training."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import cross_dataset, few_shot
from dear_jax.clip import layers, tokenizer
from dear_jax.clip.checkpoints import architectures
from dear_jax.clip.layers import LOW_RANK
from dear_jax.clip.split import Frozen, Split
from dear_jax.errors import UserError, UserErrors
from dear_jax.methods.clip_lora import CLIPLoRA, Noise, Settings
from dear_jax.setup import recipes, values
from dear_jax.setup.methods import clip_lora
from dear_jax.setup.plans import train
from tests.methods import golden

slow = pytest.mark.slow
PREFIX = {"vision": "visual.transformer.resblocks", "text": "transformer.resblocks"}
WIDTH = {"vision": 768, "text": 512}
PLAIN = Settings(jnp.float32(2**-0.5), jnp.float32(0))  # alpha 1, rank 2


def official():
    """The rule's arrays."""
    learned = {}
    for tower, prefix in PREFIX.items():
        for leaf, shape, std in (
            ("a", (2, WIDTH[tower]), WIDTH[tower] ** -0.5),
            ("b", (WIDTH[tower], 2), 0.1),
        ):
            names = [[f"lora.{prefix}.{i}.attn.{p}_proj.lora_{leaf.upper()}" for p in "qkv"] for i in range(4)]
            learned[f"{tower}_{leaf}"] = jnp.stack(
                [jnp.stack([golden.adapter(name, *shape, std=std) for name in of_layer]) for of_layer in names]
            )
    return learned


@pytest.fixture(scope="module")
def method():
    return CLIPLoRA(Split(golden.backbone()[0], 1, 1))


@pytest.fixture(scope="module")
def found(method):
    return golden.call(method, official(), PLAIN, golden.token_ids())


@slow
def test_logits_and_loss_are_those_of_the_official_module(found):
    logits, loss, _, _ = found
    expected = [[-3.9737, -4.0833, -4.9610], [0.4268, -1.9333, -1.9748]]
    np.testing.assert_allclose(logits[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(loss, 1.750113, atol=1e-5)


@slow
def test_gradients_are_the_official_ones(found):
    gradient, file = found[3], golden.read("cliplora")
    np.testing.assert_allclose(found[0][:, 0], file["logits"], atol=1e-4)
    for tower, prefix in PREFIX.items():
        for leaf in "ab":
            for i in range(4):
                for p, projection in enumerate("qkv"):
                    name = f"gradnorm.{prefix}.{i}.attn.{projection}_proj.w_lora_{leaf.upper()}"
                    norm = np.linalg.norm(gradient[f"{tower}_{leaf}"][i, p])
                    np.testing.assert_allclose(norm, file[name], rtol=1e-3, err_msg=name)


@slow
def test_it_starts_as_zero_shot_clip(method):
    _, params = golden.backbone()
    prompts = method.encode_prompts(params, golden.token_ids())
    fresh = method.init(jax.random.key(0), params, prompts, None)
    for tower, width in WIDTH.items():
        assert not fresh[f"{tower}_b"].any()
        bound = np.abs(fresh[f"{tower}_a"]).max() * width**0.5
        assert 0.99 < bound <= 1
    seen = golden.look(method.split, params, golden.images())
    classes = method.classes(fresh, PLAIN, Frozen(params, prompts))
    logits = method.logits(fresh, PLAIN, params, classes, seen)[:, 0]
    np.testing.assert_allclose(logits, 100 * seen.features @ prompts.features.T, atol=1e-4)
    np.testing.assert_allclose(logits, [[-3.4977, -3.7339, -4.3248], [-0.1525, -3.1607, -2.8156]], atol=1e-4)


@slow
def test_merged_weights_give_the_same(method, found):
    """W + alpha / sqrt(r) B A in place of W, in a CLIP that knows of no additions."""
    config, params = golden.backbone()
    merged, learned = dict(params), official()
    for tower in PREFIX:
        model = merged[f"{tower}_model"]
        stack = dict(model["encoder"]["layers"])
        attention = dict(stack["self_attn"])
        delta = PLAIN.scale * learned[f"{tower}_b"] @ learned[f"{tower}_a"]  # [L, 3, outputs, inputs]
        for p, projection in enumerate("qkv"):
            dense = attention[f"{projection}_proj"]
            kernel = dense["kernel"] + delta[:, p].swapaxes(-1, -2)
            attention[f"{projection}_proj"] = dense | {"kernel": kernel}
        stack["self_attn"] = attention
        merged[f"{tower}_model"] = model | {"encoder": {"layers": stack}}
    split = Split(config, 4, 4)
    classes = split.encode_prompts(merged, golden.token_ids()).features
    logits = 100 * golden.look(split, merged, golden.images()).features @ classes.T
    np.testing.assert_allclose(found[0][:, 0], logits, atol=1e-5 * np.abs(logits).max())


def test_as_many_numbers_as_published_are_learned():
    assert golden.count_parameters("clip_lora", "dtd") == 184_320
    assert golden.count_parameters("clip_lora", "dtd", rank=16, projections="qv", encoders="vision") == 589_824


# The rest on the small CLIP.
IDS = np.zeros((5, 20), np.int32)
for number, (row, length) in enumerate(zip(IDS, (6, 9, 7, 8, 6), strict=True)):
    row[:length] = np.random.default_rng(number).integers(1, 48, length)
    row[:4], row[length - 1] = (48, 3, 4, 5), 49
SETTINGS = Settings(jnp.float32(0.7), jnp.float32(0.25))
IMAGES = 8  # two groups on a CPU


def learned(method, params, seed=0):
    """An adapter away from its start."""
    prompts = method.encode_prompts(params, tokenizer.shorten(IDS))
    fresh = method.init(jax.random.key(seed), params, prompts, None)
    random = np.random.default_rng(seed)
    return {name: leaf + random.normal(0, 0.1, leaf.shape).astype(np.float32) for name, leaf in fresh.items()}


@pytest.fixture(scope="module")
def params(clip_params):
    return jax.device_put(clip_params)


@pytest.fixture(scope="module")
def images(clip_config):
    size = clip_config.image_size
    return jnp.asarray(np.random.default_rng(0).integers(0, 256, (IMAGES, size, size, 3), np.uint8))


@pytest.fixture(scope="module")
def small(clip_config):
    return CLIPLoRA(Split(clip_config, 1, 1))


@pytest.fixture(scope="module")
def adapter(small, params):
    return learned(small, params)


@functools.partial(jax.jit, static_argnums=0)
def text_features(method, adapter, params, prompts, noise):
    return method.classes(adapter, SETTINGS, Frozen(params, prompts), noise)


@functools.partial(jax.jit, static_argnums=0)
def image_features(method, adapter, params, images, noise):
    return method.features(adapter, SETTINGS, params, method.split.look(params, images), noise)[:, 0]


def noise_of(seed: int) -> Noise:
    return Noise(jax.random.key_data(jax.random.key(seed)))


def close(one, other):
    """Float32 rounding: the same products in another order."""
    np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def apart(one, other):
    return np.abs(one - other).max() > 1e-3


def test_what_is_dropped_in_a_prompt_is_that_of_the_key(small, adapter, params):
    prompts = small.encode_prompts(params, tokenizer.shorten(IDS))
    one, same, other, none = (
        text_features(small, adapter, params, prompts, noise) for noise in (noise_of(1), noise_of(1), noise_of(2), None)
    )
    np.testing.assert_array_equal(one, same)
    assert apart(one, other)
    assert apart(one, none)


def test_each_step_drops_anew_and_each_seed_by_itself(small):
    steps = [small.begin({}, jax.random.key(seed)) for seed in (1, 2)]
    seen = {np.asarray(noise.bits).tobytes() for noise in steps}
    for number in range(1, 51):
        steps = [small.carry(noise, {}, jnp.int32(number), None) for noise in steps]
        seen |= {np.asarray(noise.bits).tobytes() for noise in steps}
    assert len(seen) == 2 * 51
    one, other = (small.begin(adapter, jax.random.key(1)) for adapter in ({}, {"a": jnp.ones(3)}))
    np.testing.assert_array_equal(one.bits, other.bits)


@slow
def test_an_image_drops_the_same_in_a_group_as_among_all_and_no_two_drop_alike(small, adapter, params, images):
    """On a CPU a few images at a time are run, with one device for all; where they are spread over devices, all."""
    grouped = image_features(small, adapter, params, images, noise_of(1))
    close(image_features(small.spread(2, 0), adapter, params, images, noise_of(1)), grouped)
    close(image_features(small, adapter, params, images[:3], noise_of(1)), grouped[:3])
    assert apart(grouped, image_features(small, adapter, params, images, noise_of(2)))
    copies = jnp.broadcast_to(images[:1], images.shape)
    found = np.asarray(image_features(small, adapter, params, copies, noise_of(1)))
    close(found[0], grouped[0])
    assert all(apart(found[i], found[j]) for i in range(IMAGES) for j in range(i))


@slow
@pytest.mark.parametrize(("shards", "chunk"), [(1, 2), (2, 0), (2, 2)])
def test_a_prompt_drops_the_same_in_whichever_chunk_it_is(small, adapter, params, shards, chunk):
    ids, spread = tokenizer.shorten(IDS), small.spread(shards, chunk)
    expected = text_features(small, adapter, params, small.encode_prompts(params, ids), noise_of(1))
    close(text_features(spread, adapter, params, spread.encode_prompts(params, ids), noise_of(1)), expected)


def test_no_two_prompts_and_no_two_of_q_k_v_drop_alike(clip_config, params):
    """Of equal inputs: the additions to one layer, by which bits they have."""
    config = clip_config.text
    a, b = jnp.ones((3, 2, config.width)), jnp.ones((3, config.width, 2))
    bits = jax.random.key_data(jax.random.key(0))[None]
    stack = {"self_attn": {LOW_RANK: {"bits": bits, "dropout": jnp.full(1, 0.25)}}}
    own = layers.draw_apart(stack, jnp.arange(6).reshape(2, 3))["self_attn"][LOW_RANK]
    assert own["bits"].shape == (1, 2, 3, 2)
    additions = {"a": a, "b": b, "bits": own["bits"][0], "dropout": own["dropout"][0]}
    x = jnp.asarray(np.random.default_rng(0).normal(size=config.width), jnp.float32)
    found = [layers.add_low_rank(additions, i, jnp.broadcast_to(x, (2, 3, config.width))) for i in range(3)]
    assert len({float(entry) for entry in np.stack(found)[..., 0].ravel()}) == 3 * 6


@pytest.mark.parametrize("rate", [0.25, 0.6])
def test_over_many_draws_the_mean_is_that_without_dropout(rate):
    """Within a few standard errors of the mean, which the draws themselves tell."""
    generator, count, width = np.random.default_rng(0), 4000, 24
    shapes = {"a": (3, 2, width), "b": (3, width, 2)}
    plain = {name: jnp.asarray(generator.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    x = jnp.asarray(generator.normal(size=(5, width)), jnp.float32)

    @jax.jit
    @jax.vmap
    def draw(key):
        additions = plain | {"bits": jax.random.key_data(key), "dropout": jnp.float32(rate)}
        return jnp.stack([layers.add_low_rank(additions, i, x) for i in range(3)])

    found = np.asarray(draw(jax.random.split(jax.random.key(0), count)), np.float64)
    expected = np.stack([layers.add_low_rank(plain, i, x) for i in range(3)])
    errors = (found.mean(axis=0) - expected) / (found.std(axis=0) / count**0.5)
    assert np.abs(errors).max() < 4.5  # of 3 x 5 x 24 numbers, most of which depend on each other
    # The variance of a sum of w x, of which each summand is kept with probability 1 - p and divided by it, is that of
    # the summands: w^2 x^2 p / (1 - p).
    products = plain["b"] @ plain["a"]  # [3, outputs, inputs]
    variance = jnp.einsum("poi,ri->pro", products**2, x**2) * (rate / (1 - rate))
    np.testing.assert_allclose(found.var(axis=0), variance, rtol=0.15)


@functools.partial(jax.jit, static_argnums=0)
def gradient_of(method, adapter, frozen, seen, labels, noise):
    return jax.grad(method.loss, has_aux=True)(adapter, SETTINGS, frozen, seen, labels, noise)[0]


@slow
@pytest.mark.parametrize(("projections", "encoders"), [("qkv", "both"), ("k", "vision"), ("qv", "text")])
def test_gradients_reach_a_and_b_of_all_that_is_adapted(clip_config, params, images, projections, encoders):
    options = clip_lora.Options(projections=projections, encoders=encoders)
    method = clip_lora.build(options, clip_config, jnp.float32)
    adapter = learned(method, params)
    towers = ("vision", "text") if encoders == "both" else (encoders,)
    assert set(adapter) == {f"{tower}_{leaf}" for tower in towers for leaf in "ab"}
    prompts = method.encode_prompts(params, tokenizer.shorten(IDS))
    seen = jax.jit(method.split.look)(params, images)
    labels = jnp.arange(IMAGES, dtype=jnp.int32) % 5
    found = gradient_of(method, adapter, Frozen(params, prompts), seen, labels, noise_of(1))
    for name, leaf in found.items():
        assert leaf.shape[:2] == (3, len(projections))
        assert (np.abs(leaf).max(axis=(2, 3)) > 0).all(), name  # of every layer, and each of q, k, v


def test_a_tower_without_additions_is_plain_clips(clip_config, params, images):
    build = functools.partial(clip_lora.build, config=clip_config, dtype=jnp.float32)
    vision, text = (build(clip_lora.Options(encoders=encoders)) for encoders in ("vision", "text"))
    assert (vision.split.vision_layer, vision.split.text_layer) == (1, 3)
    assert (text.split.vision_layer, text.split.text_layer) == (3, 1)
    prompts = vision.encode_prompts(params, tokenizer.shorten(IDS))
    classes = vision.classes(learned(vision, params), SETTINGS, Frozen(params, prompts))
    np.testing.assert_array_equal(classes, prompts.features)
    seen = jax.jit(text.split.look)(params, images[:4])
    features = text.features(learned(text, params), SETTINGS, params, seen)
    np.testing.assert_array_equal(features[:, 0], seen.features)


@slow
def test_a_projection_without_an_addition_is_as_one_whose_addition_is_zero(clip_config, params, images):
    part = clip_lora.build(clip_lora.Options(projections="vq"), clip_config, jnp.float32)
    assert part.projections == "qv"
    whole = clip_lora.build(clip_lora.Options(), clip_config, jnp.float32)
    adapter = learned(part, params)
    full = {name: jnp.insert(leaf, 1, 0.0, axis=1) for name, leaf in adapter.items()}
    close(*(image_features(*each, params, images[:4], noise_of(1)) for each in ((part, adapter), (whole, full))))


def test_the_recipe_is_the_published_one():
    config = recipes.resolve(
        values.set_all(few_shot.get_config("dtd"), {"method": "clip_lora", "data.shots": 4, "data.root": "x"})
    )
    found = values.flat_values(config)
    expected = {
        "train.steps": 2000,
        "train.batch_size": 32,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 2e-4,
        "optimizer.weight_decay": 1e-2,
        "optimizer.epsilon": 1e-8,
        "optimizer.schedule": "step_cosine",
        "optimizer.final_learning_rate": 1e-6,
        "optimizer.warmup_epochs": 0,
        "data.crop_scale": (0.08, 1.0),
        "data.flip": True,
    }
    assert {key: found[key] for key in expected} == expected
    assert clip_lora.recipe("base2new", "imagenet", 16) == clip_lora.recipe("few_shot", "dtd", 16)
    assert clip_lora.recipe("few_shot", "dtd", 16)["train.steps"] == 8000


def test_whoever_asks_for_epochs_gets_epochs():
    config = values.set_all(few_shot.get_config("dtd"), {"method": "clip_lora", "train.epochs": 3})
    assert recipes.resolve(config).train.steps == 0
    config = values.set_all(config, {"train.steps": 70})
    assert recipes.resolve(config).train.steps == 70
    assert recipes.resolve(recipes.resolve(config)) == recipes.resolve(config)


def test_a_protocol_without_a_published_recipe_is_remarked_upon():
    config = values.set_all(cross_dataset.get_config(), {"method": "clip_lora"})
    (remark,) = train.make_plan(config).remarks
    assert "no published recipe of CLIP-LoRA for config.protocol=cross_dataset" in remark
    assert train.make_plan(config).schedule.steps == 8000
    assert train.make_plan(values.set_all(few_shot.get_config(), {"method": "clip_lora"})).remarks == ()


def test_every_data_set_has_one_prompt():
    clip = architectures.find("openai/clip-vit-base-patch16")
    method = clip_lora.build(clip_lora.Options(), clip, jnp.float32)
    assert method.prompt("oxford_pets", "a photo of a {}, a type of pet.") == "a photo of a {}."
    assert method.targets("dtd", ("{} texture.",)).templates == ("a photo of a {}.",)
    own = clip_lora.build(clip_lora.Options(template=""), clip, jnp.float32)
    assert own.prompt("dtd", "{} texture.") == "{} texture."
    assert own.targets("dtd", ("{} texture.", "a {}.")).templates == ("{} texture.", "a {}.")
    assert own.reading != method.reading


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "config.clip_lora.rank is 0, expected 1 or more"),
        ({"alpha": 0.0}, "config.clip_lora.alpha is 0.0, expected a positive number"),
        ({"dropout": 1.0}, r"config.clip_lora.dropout is 1.0, expected a number in \[0, 1\)"),
        ({"projections": "qko"}, "config.clip_lora.projections is 'qko', expected one or more of the letters q, k, v"),
        ({"projections": "qq"}, "config.clip_lora.projections is 'qq'"),
        ({"projections": ""}, "config.clip_lora.projections is ''"),
        ({"encoders": "image"}, "config.clip_lora.encoders is 'image', expected one of both, vision, text"),
        ({"template": "a photo"}, "config.clip_lora.template is 'a photo', expected a prompt with one {}, or none"),
    ],
)
def test_bad_values_name_their_key(changes, message):
    keys = {"method": "clip_lora"} | {f"clip_lora.{key}": value for key, value in changes.items()}
    with pytest.raises(UserErrors, match=message):
        train.make_plan(values.set_all(few_shot.get_config(), keys))


def test_a_rank_above_the_width_is_refused(clip_config):
    with pytest.raises(UserError, match=r"config.clip_lora.rank is 25: expected at most 24, .* text tower"):
        clip_lora.build(clip_lora.Options(rank=25), clip_config, jnp.float32)
    clip_lora.build(clip_lora.Options(rank=25, encoders="vision"), clip_config, jnp.float32)
