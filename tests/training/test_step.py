"""The training step: fast by design, equal to the plain computation, and the same alone or among other runs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from dear_jax.clip import tokenizer, vision
from dear_jax.clip.layers import Tokens, unit
from dear_jax.clip.split import Frozen, Split
from dear_jax.methods.contract import Adapter, Length
from dear_jax.methods.dear import mask, patterns
from dear_jax.methods.dear.model import DeAR, Settings, Start
from dear_jax.parallel import axes, sharding
from dear_jax.training import step
from dear_jax.training.optimizer import Optimizer, Rates
from dear_jax.training.program import Runs, make_step
from tests import reference

ATTRIBUTES = ("color", "shape")
BATCH, CLASSES = 4, 5

# Float32 rounding: the same products in another order, over a few steps of AdamW, whose division by the root of a
# small second moment magnifies it.
CLOSE = dict(rtol=2e-4, atol=2e-6)


@pytest.fixture(scope="module")
def method(clip_config) -> DeAR:
    return DeAR(Split(clip_config, 2, 2), ATTRIBUTES, text_count=3)


@pytest.fixture(scope="module")
def token_ids(clip_config) -> np.ndarray:
    ids = np.zeros((CLASSES, clip_config.context_length), np.int32)
    for number, (row, length) in enumerate(zip(ids, (4, 7, 5, 6, 4), strict=True)):
        row[:length] = np.random.default_rng(number).integers(1, 48, length)  # all different: equal ones would tie
        row[0], row[length - 1] = 48, 49
    return ids


@pytest.fixture(scope="module")
def frozen(clip_params, method, token_ids) -> Frozen:
    params = jax.device_put(clip_params)
    return Frozen(params, method.split.encode_prompts(params, tokenizer.shorten(token_ids)))


def make_settings(method: DeAR, seed: int, beta: float = 0.9) -> Settings:
    roles = patterns.plain_roles("random", 2, method.split.config.vision.heads, ATTRIBUTES, seed)
    table = mask.build(roles, ATTRIBUTES, 1 + method.split.config.patches)
    return Settings(table, np.float32(beta), np.float32(1.0 + seed), np.float32(0.1))


def make_batches(method: DeAR, seed: int, count: int) -> list[tuple[jax.Array, jax.Array]]:
    generator = np.random.default_rng(seed)
    size = method.split.config.image_size
    return [
        (
            jnp.asarray(generator.integers(0, 256, (BATCH, size, size, 3), np.uint8)),
            jnp.asarray(generator.integers(0, CLASSES, BATCH, np.int32)),
        )
        for _ in range(count)
    ]


LENGTH, OPTIMIZER = Length(1, 100), Optimizer()


def make_rates(learning_rate: float = 1e-2) -> Rates:
    return Rates(*map(np.float32, (learning_rate, learning_rate, 1, 5e-4)))


def fresh(method: DeAR, frozen: Frozen, seed: int) -> Adapter:
    return method.init(jax.random.key(seed), frozen.params, frozen.prompts.features, Start(init_std=0.5))


def start(method: DeAR, frozen: Frozen, seed: int) -> step.TrainState:
    adapter = fresh(method, frozen, seed)
    return step.create_state(adapter, method.begin(adapter, jax.random.key(seed)), OPTIMIZER.make(make_rates(), LENGTH))


@pytest.fixture(scope="module")
def update_one(method):
    """The compiled step of a single run; every test must be served by one compilation."""

    @jax.jit
    def update(state, frozen, images, labels, settings, rates):
        seen = method.split.look(frozen.params, images)
        return step.train_step(method, OPTIMIZER, LENGTH, state, frozen, seen, labels, settings, rates)

    yield update
    assert update._cache_size() == 1


def plain_loss(adapter, params, method: DeAR, token_ids, images, labels, settings: Settings):
    """methods/dear section 4 with both branches run whole, at the full context length, layer by layer."""
    config, layer, beta = method.split.config, method.split.vision_layer, settings.beta[None]
    entering = Tokens(adapter["vision_tokens"][None], beta)
    adapted = reference.image_rows(params, config, images, layer, entering, settings.head_mask)
    f_cls = unit(vision.project(params, config, adapted[:, 0]))
    normed = vision.final_norm(params, config, adapted[:, -len(ATTRIBUTES) :])
    f_attributes = unit(normed @ adapter["attribute_projection"][0])
    plain = unit(vision.project(params, config, reference.image_rows(params, config, images, layer)[:, 0]))
    layer, entering = method.split.text_layer, Tokens(adapter["text_tokens"][None], beta)
    w = reference.text_features(params, config, token_ids, layer, entering)
    w_plain = reference.text_features(params, config, token_ids, layer)

    alpha = jax.nn.softmax(adapter["fusion"])
    scale = jnp.minimum(jnp.exp(params["logit_scale"]), 100)
    logits = alpha[0] * scale * f_cls @ w.T
    for k in range(len(ATTRIBUTES)):
        logits += alpha[1 + k] * scale * f_attributes[:, k] @ w.T
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()
    regularization = (1 - (f_cls * plain).sum(-1)).mean() + (1 - (w * w_plain).sum(-1)).mean()
    return losses + settings.reg_weight * regularization - settings.fusion_weight * jnp.log(alpha[0])


def test_shared_prefix_and_short_context_equal_the_plain_computation(method, frozen, token_ids):
    adapter = fresh(method, frozen, 0)
    images, labels = make_batches(method, 0, 1)[0]
    settings = jax.tree.map(jnp.asarray, make_settings(method, 1))
    differentiate = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    seen = method.split.look(frozen.params, images)
    (loss, _), gradients = differentiate(adapter, settings, frozen, seen, labels)
    assert frozen.prompts.prefix.shape[1] < CLASSES * method.split.config.context_length / 3
    plain = jax.jit(jax.value_and_grad(plain_loss), static_argnames="method")
    expected, expected_gradients = plain(
        adapter, frozen.params, method, jnp.asarray(token_ids), images, labels, settings
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for name, gradient in gradients.items():
        scale = np.abs(expected_gradients[name]).max()
        np.testing.assert_allclose(gradient, expected_gradients[name], rtol=0, atol=2e-5 * scale, err_msg=name)
        assert scale > 0, name


def run_alone(method, frozen, update_one, seed: int, settings: Settings, rates: Rates, count: int = 4):
    state = start(method, frozen, seed)
    for images, labels in make_batches(method, seed, count):
        state, metrics = update_one(state, frozen, images, labels, settings, rates)
    return state, metrics


def run_together(
    method, frozen, seeds, variants, devices: int = 1, count: int = 4, layout=None, token_ids=None, chunk=0
):
    """`variants` are pairs of settings and rates; `layout` a mesh's sizes and the specs; `token_ids` are encoded."""
    devices = jax.devices()[:devices]
    mesh, specs = sharding.make_layout(len(seeds), [len(variants)], BATCH, CLASSES, devices)
    if layout is not None:
        mesh, specs = Mesh(np.reshape(devices, layout[0]), ("run", "data")), layout[1]
    shape = len(seeds), len(variants)
    method = method.spread(mesh.shape["data"] if token_ids is not None else 1, chunk)
    update = make_step(method, Runs(tuple(range(shape[0])), BATCH, LENGTH, mesh, specs), shape)

    def widen(*leaves):
        return jnp.stack([jnp.broadcast_to(leaf, (len(variants), *leaf.shape)) for leaf in leaves])

    state = jax.tree.map(widen, *(start(method, frozen, seed) for seed in seeds))
    state = sharding.place(state, mesh, specs.runs)
    if token_ids is None:
        frozen = sharding.place(frozen, mesh, sharding.REPLICATED)
    else:
        params = sharding.place_backbone(frozen.params, mesh, shard=True, least=64)
        frozen = Frozen(
            params, sharding.place_prompts(method.split.encode_prompts(params, tokenizer.shorten(token_ids)), mesh)
        )
    settings, rates = jax.tree.map(lambda *leaves: np.stack(leaves), *variants)
    settings, rates = sharding.place((settings, rates), mesh, specs.settings)
    for batch in zip(*(make_batches(method, seed, count) for seed in seeds), strict=True):
        stacked = tuple(np.stack(leaves) for leaves in zip(*batch, strict=True))
        images = sharding.place(stacked[0], mesh, specs.images)
        labels = sharding.place(stacked[1], mesh, specs.labels)
        state, metrics = update(state, frozen, images, labels, settings, rates)
    assert update._cache_size() == 1
    assert len(metrics["loss"].sharding.device_set) == len(devices)
    return sharding.replicate(state, mesh, shape), metrics


def assert_close(tree, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), tree, expected)


def make_variants(method):
    return [
        (make_settings(method, 1), make_rates()),
        (make_settings(method, 2, beta=0.5), make_rates()),
        (make_settings(method, 1), make_rates(2e-3)),
    ]


@pytest.fixture(scope="module")
def before(frozen):
    """What was frozen before any step."""
    return jax.tree.map(np.array, frozen)


@pytest.fixture(scope="module")
def on_one_device(method, frozen, before):
    """What three variants of three seeds become on one device: state and metrics `[3, 3]`."""
    return run_together(method, frozen, (1, 2, 3), make_variants(method))


def test_seeds_and_variants_together_give_what_each_gives_alone(method, frozen, before, update_one, on_one_device):
    state, metrics = on_one_device
    for s, seed in enumerate((1, 2, 3)):
        for v, (settings, rates) in enumerate(make_variants(method)):
            alone, alone_metrics = run_alone(method, frozen, update_one, seed, settings, rates)
            assert_close(jax.tree.map(lambda leaf, s=s, v=v: leaf[s, v], state.adapter), alone.adapter)
            assert_close(jax.tree.map(lambda leaf, s=s, v=v: leaf[s, v], metrics), alone_metrics)
    jax.tree.map(np.testing.assert_array_equal, frozen, before)


BY_SEED, BY_VARIANT = sharding.BY_SEED, sharding.BY_VARIANT


# Three seeds, three variants, batch 4, 5 classes: all but the sizes 1 and 3 leave devices to be filled up.
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
def test_any_layout_gives_what_one_device_gives(method, frozen, token_ids, on_one_device, shape, specs):
    state, metrics = run_together(
        method, frozen, (1, 2, 3), make_variants(method), math.prod(shape), layout=(shape, specs), token_ids=token_ids
    )
    assert_close(state.adapter, on_one_device[0].adapter)
    assert_close(metrics, on_one_device[1])


@pytest.mark.slow
def test_class_prompts_in_chunks_on_every_device_give_the_same(method, frozen, token_ids, on_one_device):
    """Five classes on two devices, two at a time."""
    layout = (1, 2), sharding.BY_SEED
    state, metrics = run_together(
        method, frozen, (1, 2, 3), make_variants(method), 2, layout=layout, token_ids=token_ids, chunk=2
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


@dataclasses.dataclass(frozen=True)
class Averaged(DeAR):
    """DeAR that learns the mean of the adapters after each update."""

    def begin(self, adapter, key):
        return jax.tree.map(jnp.zeros_like, adapter)

    def carry(self, carried, adapter, step, length):
        return jax.tree.map(lambda mean, leaf: mean + (leaf - mean) / step.astype(jnp.float32), carried, adapter)

    def finish(self, adapter, carried):
        return carried


def test_what_a_method_carries_along_is_that_of_each_run(method, frozen, update_one):
    """A running average: the mean of the adapters that the same run without it has after each step."""
    averaged, variants = Averaged(method.split, method.attributes, method.text_count), make_variants(method)
    together, _ = run_together(averaged, frozen, (1, 2), variants, count=3)
    learned = jax.vmap(jax.vmap(averaged.finish))(together.adapter, together.carried)
    np.testing.assert_array_equal(together.step, np.full((2, 3), 3))
    for s, seed in enumerate((1, 2)):
        for v, (settings, rates) in enumerate(variants):
            state, adapters = start(method, frozen, seed), []
            for images, labels in make_batches(method, seed, 3):
                state, _ = update_one(state, frozen, images, labels, settings, rates)
                adapters.append(state.adapter)
            mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *adapters)
            assert_close(jax.tree.map(lambda leaf, s=s, v=v: leaf[s, v], learned), mean)
            assert_close(jax.tree.map(lambda leaf, s=s, v=v: leaf[s, v], together.adapter), adapters[-1])
    assert np.abs(learned["vision_tokens"] - together.adapter["vision_tokens"]).max() > 1e-3


def test_another_mask_does_not_compile_again_and_does_change_the_result(method, frozen, update_one):
    state = start(method, frozen, 0)
    images, labels = make_batches(method, 0, 1)[0]
    losses = [
        float(update_one(state, frozen, images, labels, make_settings(method, seed), make_rates())[1]["cross_entropy"])
        for seed in (0, 1)
    ]
    assert losses[0] != losses[1]


def test_training_lowers_the_loss_of_one_batch(method, frozen, update_one):
    state = start(method, frozen, 0)
    images, labels = make_batches(method, 0, 1)[0]
    losses = []
    for _ in range(20):
        state, metrics = update_one(state, frozen, images, labels, make_settings(method, 0), make_rates())
        losses.append(float(metrics["cross_entropy"]))
    assert losses[-1] < 0.5 * losses[0]
    assert int(state.step) == 20
    last = OPTIMIZER.learning_rate(make_rates(), LENGTH)(jnp.asarray(19))
    assert float(metrics["learning_rate"]) == float(last) > 0


def test_runs_one_after_the_other_give_what_each_gives(method, frozen):
    adapters = [fresh(method, frozen, seed) for seed in range(6)]
    runs = jax.tree.map(lambda *leaves: jnp.stack(leaves).reshape(2, 3, *leaves[0].shape), *adapters)
    settings = [jax.tree.map(jnp.asarray, make_settings(method, v, beta=0.3 * v)) for v in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *settings)

    def features(adapter, settings):
        return method.classes(adapter, settings, frozen)

    found = jax.jit(lambda runs, settings: axes.each_run(features, runs, settings))(runs, stacked)
    assert found.shape == (2, 3, CLASSES, method.split.config.embed_dim)
    for s in range(2):
        for v in range(3):
            np.testing.assert_allclose(found[s, v], features(adapters[3 * s + v], settings[v]), rtol=1e-5, atol=1e-6)
