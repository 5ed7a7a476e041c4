"""The training step: fast by design, equal to the plain computation, and the same alone or among other runs."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dear_jax.methods.dear.tokens import Start
from jax.sharding import Mesh

from dear_jax.clip import layers, text, tokenizer, vision
from dear_jax.evaluation import accuracy
from dear_jax.methods.dear import mask, patterns, tokens
from dear_jax.methods.dear.model import Model, Settings, unit
from dear_jax.parallel import sharding
from dear_jax.training import optimizer as optimizers
from dear_jax.training import step
from dear_jax.training.optimizer import Length, Rates
from dear_jax.training.program import Runs, make_step
from dear_jax.training.step import Frozen

ATTRIBUTES = ("color", "shape")
BATCH, CLASSES = 4, 5

# Float32 rounding: the same products in another order, over a few steps of AdamW, whose division by the root of a
# small second moment magnifies it.
CLOSE = dict(rtol=2e-4, atol=2e-6)


@pytest.fixture(scope="module")
def model(clip_config) -> Model:
    structure = tokens.make_structure(
        clip_config,
        attributes=ATTRIBUTES,
        text_count=3,
        vision_layer=2,
        text_layer=2,
    )
    return Model(clip_config, structure)


@pytest.fixture(scope="module")
def token_ids(clip_config) -> np.ndarray:
    ids = np.zeros((CLASSES, clip_config.context_length), np.int32)
    for number, (row, length) in enumerate(zip(ids, (4, 7, 5, 6, 4), strict=True)):
        row[:length] = np.random.default_rng(number).integers(1, 48, length)  # all different: equal ones would tie
        row[0], row[length - 1] = 48, 49
    return ids


@pytest.fixture(scope="module")
def frozen(clip_params, model, token_ids) -> Frozen:
    params = jax.device_put(clip_params)
    return Frozen(params, model.encode_prompts(params, tokenizer.shorten(token_ids)))


def make_settings(model: Model, seed: int, beta: float = 0.9) -> Settings:
    roles = patterns.plain_roles("random", 2, model.config.vision.heads, ATTRIBUTES, seed)
    table = mask.build(roles, ATTRIBUTES, 1 + model.config.patches)
    return Settings(table, np.float32(beta), np.float32(1.0 + seed), np.float32(0.1))


def make_batches(model: Model, seed: int, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(seed)
    size = model.config.image_size
    return [
        (
            generator.integers(0, 256, (BATCH, size, size, 3), np.uint8),
            generator.integers(0, CLASSES, BATCH, np.int32),
        )
        for _ in range(count)
    ]


LENGTH = Length(1, 100)


def make_rates(learning_rate: float = 1e-2) -> Rates:
    return Rates(*map(np.float32, (learning_rate, learning_rate, 1, 5e-4)))


def fresh(model: Model, frozen: Frozen, seed: int) -> tokens.Adapter:
    key = jax.random.key(seed)
    return tokens.initialize(key, frozen.params, model.config, model.structure, Start(init_std=0.5))


def start(model: Model, frozen: Frozen, seed: int) -> step.TrainState:
    return step.create_state(fresh(model, frozen, seed), optimizers.make(make_rates(), LENGTH))


@pytest.fixture(scope="module")
def update_one(model):
    """The compiled step of a single run; every test must be served by one compilation."""

    @jax.jit
    def update(state, frozen, images, labels, settings, rates):
        seen = step.look(model, frozen.params, images)
        return step.train_step(model, LENGTH, state, frozen, seen, labels, settings, rates)

    yield update
    assert update._cache_size() == 1


def plain_loss(adapter, params, model: Model, token_ids, images, labels, settings: Settings):
    """methods/dear section 4 with both branches run whole, at the full context length, layer by layer."""
    config, structure = model.config, model.structure

    def run(tower, stack, x, masks, learned, position, first):
        count = stack["layer_norm1"]["scale"].shape[0]
        for layer in range(1, count + 1):
            if learned is not None and layer == first:
                x = layers.insert_tokens(x, learned, position)
            elif learned is not None and layer > first:
                fresh = settings.beta * learned[None] + (1 - settings.beta) * x[:, position : position + len(learned)]
                x = x.at[:, position : position + len(learned)].set(fresh)
            weights = jax.tree.map(lambda leaf, layer=layer: leaf[layer - 1], stack)
            block_mask = masks(layer, x.shape[1])
            x, _ = layers.Block(tower).apply({"params": weights}, x, block_mask)
        return x

    def image_tower(learned):
        x = vision.embed(params, config, vision.normalize(images, config))
        stack = params["vision_model"]["encoder"]["layers"]

        def masks(layer, _):
            masked = learned is not None and layer >= structure.vision_layer
            return settings.head_mask[layer - structure.vision_layer] if masked else None

        return run(config.vision, stack, x, masks, learned, x.shape[1], structure.vision_layer)

    def text_tower(learned):
        x = text.embed(params, config, token_ids)
        stack = params["text_model"]["encoder"]["layers"]
        x = run(
            config.text,
            stack,
            x,
            lambda _, n: text.causal_mask(n),
            learned,
            1,
            structure.text_layer,
        )
        positions = text.end_positions(token_ids, config) + (0 if learned is None else len(learned))
        return unit(text.project(params, config, x, positions))

    adapted = image_tower(adapter["vision_tokens"])
    f_cls = unit(vision.project(params, config, adapted[:, 0]))
    normed = vision.final_norm(params, config, adapted[:, -len(ATTRIBUTES) :])
    f_attributes = unit(normed @ adapter["attribute_projection"][0])
    plain = unit(vision.project(params, config, image_tower(None)[:, 0]))
    w, w_plain = text_tower(adapter["text_tokens"]), text_tower(None)

    alpha = jax.nn.softmax(adapter["fusion"])
    scale = jnp.minimum(jnp.exp(params["logit_scale"]), 100)
    logits = alpha[0] * scale * f_cls @ w.T
    for k in range(len(ATTRIBUTES)):
        logits += alpha[1 + k] * scale * f_attributes[:, k] @ w.T
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()
    regularization = (1 - (f_cls * plain).sum(-1)).mean() + (1 - (w * w_plain).sum(-1)).mean()
    return losses + settings.reg_weight * regularization - settings.fusion_weight * jnp.log(alpha[0])


def test_shared_prefix_and_short_context_equal_the_plain_computation(model, frozen, token_ids):
    adapter = fresh(model, frozen, 0)
    images, labels = map(jnp.asarray, make_batches(model, 0, 1)[0])
    settings = jax.tree.map(jnp.asarray, make_settings(model, 1))
    differentiate = jax.jit(jax.value_and_grad(functools.partial(step.loss, model), has_aux=True))
    seen = step.look(model, frozen.params, images)
    (loss, _), gradients = differentiate(adapter, frozen, seen, labels, settings)
    assert frozen.prompts.prefix.shape[1] < CLASSES * model.config.context_length / 3
    plain = jax.jit(jax.value_and_grad(plain_loss), static_argnames="model")
    expected, expected_gradients = plain(
        adapter, frozen.params, model, jnp.asarray(token_ids), images, labels, settings
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for name, gradient in gradients.items():
        scale = np.abs(expected_gradients[name]).max()
        np.testing.assert_allclose(gradient, expected_gradients[name], rtol=0, atol=2e-5 * scale, err_msg=name)
        assert scale > 0, name


def run_alone(model, frozen, update_one, seed: int, settings: Settings, rates: Rates, count: int = 4):
    state = start(model, frozen, seed)
    for images, labels in make_batches(model, seed, count):
        state, metrics = update_one(state, frozen, images, labels, settings, rates)
    return state, metrics


def run_together(
    model, frozen, seeds, variants, devices: int = 1, count: int = 4, layout=None, token_ids=None, chunk=0
):
    """`variants` are pairs of settings and rates; `layout` a mesh's sizes and the specs; `token_ids` are encoded."""
    devices = jax.devices()[:devices]
    mesh, specs = sharding.make_layout(len(seeds), [len(variants)], BATCH, CLASSES, devices)
    if layout is not None:
        mesh, specs = Mesh(np.reshape(devices, layout[0]), ("run", "data")), layout[1]
    shape = len(seeds), len(variants)
    model = dataclasses.replace(
        model, class_shards=mesh.shape["data"] if token_ids is not None else 1, class_chunk=chunk
    )
    update = make_step(model, Runs(tuple(range(shape[0])), BATCH, LENGTH, mesh, specs), shape)

    def widen(*leaves):
        return jnp.stack([jnp.broadcast_to(leaf, (len(variants), *leaf.shape)) for leaf in leaves])

    state = jax.tree.map(widen, *(start(model, frozen, seed) for seed in seeds))
    state = sharding.place(state, mesh, specs.runs)
    if token_ids is None:
        frozen = sharding.place(frozen, mesh, sharding.REPLICATED)
    else:
        params = sharding.place_backbone(frozen.params, mesh, shard=True, least=64)
        frozen = Frozen(
            params, sharding.place_prompts(model.encode_prompts(params, tokenizer.shorten(token_ids)), mesh)
        )
    settings, rates = jax.tree.map(lambda *leaves: np.stack(leaves), *variants)
    settings, rates = sharding.place((settings, rates), mesh, specs.settings)
    for batch in zip(*(make_batches(model, seed, count) for seed in seeds), strict=True):
        stacked = tuple(np.stack(leaves) for leaves in zip(*batch, strict=True))
        images = sharding.place(stacked[0], mesh, specs.images)
        labels = sharding.place(stacked[1], mesh, specs.labels)
        state, metrics = update(state, frozen, images, labels, settings, rates)
    assert update._cache_size() == 1
    assert len(metrics.loss.sharding.device_set) == len(devices)
    return sharding.replicate(state, mesh, shape), metrics


def assert_close(tree, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), tree, expected)


def test_seeds_and_variants_together_give_what_each_gives_alone(model, frozen, update_one):
    before = jax.tree.map(np.array, frozen)
    variants = [
        (make_settings(model, 1), make_rates()),
        (make_settings(model, 2, beta=0.5), make_rates()),
        (make_settings(model, 1), make_rates(2e-3)),
    ]
    state, metrics = run_together(model, frozen, (1, 2, 3), variants)
    for s, seed in enumerate((1, 2, 3)):
        for v, (settings, rates) in enumerate(variants):
            alone, alone_metrics = run_alone(model, frozen, update_one, seed, settings, rates)
            assert_close(jax.tree.map(lambda leaf, s=s, v=v: leaf[s, v], state.adapter), alone.adapter)
            assert_close(jax.tree.map(lambda leaf, s=s, v=v: leaf[s, v], metrics), alone_metrics)
    jax.tree.map(np.testing.assert_array_equal, frozen, before)


@pytest.fixture(scope="module")
def on_one_device(model, frozen):
    """What two variants of three seeds become on one device: state and metrics `[3, 2]`."""
    return run_together(model, frozen, (1, 2, 3), make_variants(model))


def make_variants(model):
    return [(make_settings(model, 1), make_rates()), (make_settings(model, 2, beta=0.5), make_rates(2e-3))]


BY_SEED, BY_VARIANT = sharding.BY_SEED, sharding.BY_VARIANT


# Three seeds, two variants, batch 4, 5 classes: all but the sizes 1, 2 and 3 leave devices to be filled up.
SLOW = pytest.mark.slow
EIGHT = pytest.mark.skipif("len(jax.devices()) < 8", reason="needs TEST_DEVICES=8")


@pytest.mark.parametrize(
    ("shape", "specs"),
    [
        ((2, 2), BY_VARIANT),
        pytest.param((1, 8), BY_SEED, marks=EIGHT),
        pytest.param((1, 2), BY_SEED, marks=SLOW),
        pytest.param((2, 1), BY_VARIANT, marks=SLOW),
        pytest.param((1, 3), BY_SEED, marks=SLOW),
        pytest.param((4, 1), BY_SEED, marks=SLOW),
        pytest.param((2, 4), BY_SEED, marks=EIGHT),
        pytest.param((4, 2), BY_VARIANT, marks=EIGHT),
    ],
)
def test_any_layout_gives_what_one_device_gives(model, frozen, token_ids, on_one_device, shape, specs):
    state, metrics = run_together(
        model, frozen, (1, 2, 3), make_variants(model), math.prod(shape), layout=(shape, specs), token_ids=token_ids
    )
    assert_close(state.adapter, on_one_device[0].adapter)
    assert_close(metrics, on_one_device[1])


def test_class_prompts_in_chunks_on_every_device_give_the_same(model, frozen, token_ids, on_one_device):
    """Five classes on two devices, two at a time."""
    layout = (1, 2), sharding.BY_SEED
    state, metrics = run_together(
        model, frozen, (1, 2, 3), make_variants(model), 2, layout=layout, token_ids=token_ids, chunk=2
    )
    assert_close(state.adapter, on_one_device[0].adapter)
    assert_close(metrics, on_one_device[1])


def test_the_step_divides_its_work_among_the_devices():
    choose = sharding.make_layout
    devices = jax.devices()
    assert choose(2, [1], 4, 5, devices[:4])[0].devices.shape == (2, 2)
    assert choose(3, [1], 4, 5, devices[:4])[0].devices.shape == (1, 4)
    assert choose(3, [1], 4, 5, devices[:4], shape=(4, 1))[0].devices.shape == (4, 1)


@EIGHT
def test_many_variants_go_over_run_and_one_run_over_data():
    choose, devices = sharding.make_layout, jax.devices()
    assert choose(1, [1], 4, 50, devices[:8])[0].devices.shape == (1, 8)
    mesh, specs = choose(1, [12], 4, 50, devices[:8])
    assert mesh.devices.shape == (4, 2)
    assert specs is sharding.BY_VARIANT


def test_another_mask_does_not_compile_again_and_does_change_the_result(model, frozen, update_one):
    state = start(model, frozen, 0)
    images, labels = map(jnp.asarray, make_batches(model, 0, 1)[0])
    losses = [
        float(update_one(state, frozen, images, labels, make_settings(model, seed), make_rates())[1].cross_entropy)
        for seed in (0, 1)
    ]
    assert losses[0] != losses[1]


def test_training_lowers_the_loss_of_one_batch(model, frozen, update_one):
    state = start(model, frozen, 0)
    images, labels = map(jnp.asarray, make_batches(model, 0, 1)[0])
    losses = []
    for _ in range(20):
        state, metrics = update_one(state, frozen, images, labels, make_settings(model, 0), make_rates())
        losses.append(float(metrics.cross_entropy))
    assert losses[-1] < 0.5 * losses[0]
    assert int(state.step) == 20


def test_counts_leave_out_what_is_not_valid(model, frozen):
    adapter, settings = fresh(model, frozen, 0), make_settings(model, 0)
    images = jnp.concatenate([images for images, _ in make_batches(model, 0, 2)])
    prefix = model.image_prefix(frozen.params, images)
    classes = model.text_features(adapter, frozen.params, frozen.prompts, settings.beta)
    features = model.image_features(adapter, frozen.params, settings, prefix)
    paths = np.einsum("bid,cd->bic", np.asarray(features), np.asarray(classes))
    zero_shot = np.argmax(model.plain_features(frozen.params, prefix) @ frozen.prompts.features.T, axis=1)
    alphas = {
        "learned": np.asarray(jax.nn.softmax(adapter["fusion"])),
        "class_only": np.array([1, 0, 0]),
        "equal": np.full(3, 1 / 3),
        0.2: np.array([0.2, 0.4, 0.4]),
    }
    run = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None, None], (adapter, classes))
    adapted = [(run[0], jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], settings), run[1])]
    valid = np.arange(len(images)) != 2
    count = jax.jit(
        functools.partial(accuracy.count_batch, (model, model), tuple(alphas), frozen.params, frozen.prompts.features)
    )
    for f, alpha in enumerate(alphas.values()):
        predicted = np.argmax(np.einsum("i,bic->bc", alpha, paths), axis=1)
        for label, expected in ((predicted, 7), ((predicted + 1) % CLASSES, 0)):
            found, found_zero_shot = count({"image": images, "label": label, "valid": valid}, adapted)
            assert found.shape == (4, 1, 1)
            assert int(found[f, 0, 0]) == expected
            assert int(found_zero_shot) == np.sum((zero_shot == label) & valid)


def test_runs_one_after_the_other_give_what_each_gives(model, frozen):
    adapters = [fresh(model, frozen, seed) for seed in range(6)]
    runs = jax.tree.map(lambda *leaves: jnp.stack(leaves).reshape(2, 3, *leaves[0].shape), *adapters)
    settings = [jax.tree.map(jnp.asarray, make_settings(model, v, beta=0.3 * v)) for v in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *settings)

    def features(adapter, settings):
        return model.text_features(adapter, frozen.params, frozen.prompts, settings.beta)

    found = jax.jit(lambda runs, settings: step.each_run(features, runs, settings))(runs, stacked)
    assert found.shape == (2, 3, CLASSES, model.config.embed_dim)
    for s in range(2):
        for v in range(3):
            np.testing.assert_allclose(found[s, v], features(adapters[3 * s + v], settings[v]), rtol=1e-5, atol=1e-6)
