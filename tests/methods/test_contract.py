"""What every method owes to the rest of the project: one run over all rows of the table, and over a second method."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from configs import few_shot
from dear_jax import Classifier, jobs
from dear_jax.clip import tokenizer, vision
from dear_jax.clip.split import Frozen, logit_scale
from dear_jax.errors import UserError
from dear_jax.jobs.description import Description
from dear_jax.methods import adapter_file
from dear_jax.methods.contract import Length, Support
from dear_jax.parallel import axes, sharding
from dear_jax.roles import places
from dear_jax.setup import backbones, checks, methods, recipes, values, variants
from dear_jax.setup.plans import compile as compile_plans
from dear_jax.setup.programs import make_programs
from dear_jax.setup.roles import NoRoleMaps
from dear_jax.tpu.planned import plan_programs
from dear_jax.training import program as programs_of
from dear_jax.training import step
from dear_jax.training.program import Runs
from tests import toy_probe

BATCH, CLASSES, SEEDS = 4, 5, (1, 2)
IMAGES = 2 * CLASSES  # trained on, of each seed
LENGTH = Length(2, 2)
RUNS = Runs(SEEDS, BATCH, LENGTH, sharding.data_mesh(), sharding.BY_SEED)
# Float32 rounding: the same products in another order, over two steps of AdamW, whose division by the root of a small
# second moment magnifies it.
CLOSE = dict(rtol=2e-4, atol=2e-6)

QUICK = ("dear", "toy_probe")  # the others are run with the slow tests
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*methods.METHODS, QUICK[1])]
WITHOUT_FEATURES = ("cocoop",)  # of images, which says so where these are asked for
WITHOUT_MAPS = ("cocoop", "tip_adapter", "tip_adapter_f", "lpp", "linear_probe", "toy_probe")  # which says so
WITHOUT_ROLES = {"dear": {"dear.mask.pattern": "open"}}  # of a CLIP whose heads nobody has looked at


@pytest.fixture(scope="module", autouse=True)
def second_method():
    """One more row of the table."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(methods.METHODS, "toy_probe", toy_probe)
        yield


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


def config_of(name: str, **changes):
    config = few_shot.get_config("world_objects")
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return recipes.resolve(values.set_all(config, {"method": name} | changes))


@pytest.fixture(scope="module")
def program(name, clip_config):
    """One program of two variants that differ in a rate, on the small CLIP."""
    config = config_of(name, variants="one: optimizer.weight_decay=0 | two: optimizer.learning_rate=0.01")
    roles = NoRoleMaps(clip_config.vision.layers, clip_config.vision.heads)
    (program,) = make_programs(variants.read(config), backbones.read(config), clip_config, roles)
    return program.sized(IMAGES)


@pytest.fixture(scope="module")
def method(program):
    return program.method


@pytest.fixture(scope="module")
def token_ids(method, clip_config):
    """Prompts which, behind the beginning of text, share as many words as the method replaces."""
    ids, shared = np.zeros((CLASSES, clip_config.context_length), np.int32), 1 + method.context
    for number, (row, length) in enumerate(zip(ids, (3, 6, 4, 5, 3), strict=True)):
        length = min(length, len(row) - shared)
        row[1:shared] = 1 + np.arange(method.context)
        row[shared : shared + length] = np.random.default_rng(number).integers(1, 48, length)
        row[0], row[shared + length - 1] = 48, 49
    return tokenizer.shorten(ids)


@pytest.fixture(scope="module")
def frozen(method, clip_params, token_ids):
    params = jax.device_put(clip_params)
    return Frozen(params, method.encode_prompts(params, token_ids))


@pytest.fixture(scope="module")
def batches(clip_config):
    generator, size = np.random.default_rng(0), clip_config.image_size
    shape = (len(SEEDS), BATCH)
    images = [generator.integers(0, 256, (*shape, size, size, 3), np.uint8) for _ in range(2)]
    return [(jnp.asarray(one), jnp.asarray(generator.integers(0, CLASSES, shape, np.int32))) for one in images]


@pytest.fixture(scope="module")
def supports(method, frozen):
    """What the methods that want it know of the images of each seed; there are fewer validation images."""
    if method.wanted is None:
        return ()

    def support(seed):
        noise, text = np.random.default_rng(seed), np.asarray(frozen.prompts.features)
        labels = [np.arange(count, dtype=np.int32) % CLASSES for count in (IMAGES, IMAGES - 3)]
        rows = [3 * text[of] + noise.normal(0, 0.5, (len(of), text.shape[1])).astype(np.float32) for of in labels]
        return Support(rows[0], labels[0], rows[1], labels[1], text)

    return tuple(map(support, SEEDS))


@pytest.fixture(scope="module")
def state(program, frozen, supports):
    """Of all runs, `[S, V]`, away from the start, where some gradients vanish."""
    if not program.method.steps:  # of one run, which is all that its tests look at
        adapter = program.method.init(jax.random.key(1), frozen.params, frozen.prompts, program.starts[0])
        return step.TrainState(jax.tree.map(lambda leaf: leaf[None, None], adapter), (), jnp.zeros((), jnp.int32))
    fresh = programs_of.fresh_state(program, RUNS, frozen.params, frozen.prompts, supports)
    noise = np.random.default_rng(1)
    moved = jax.tree.map(
        lambda leaf: leaf + noise.normal(0, 0.05, leaf.shape).astype(np.float32), fresh.adapter
    )
    return fresh._replace(adapter=moved)


@pytest.fixture(scope="module")
def one(program, state, method, frozen, batches):
    """Adapter, settings, images seen, and labels of the first run."""
    adapter = jax.tree.map(lambda leaf: leaf[0, 0], state.adapter)
    settings = jax.tree.map(lambda leaf: leaf[0], program.settings)
    images, labels = batches[0]
    return adapter, settings, jax.jit(method.split.look)(frozen.params, images[0]), labels[0]


@pytest.fixture(scope="module")
def carried(state):
    """What the first run carries along."""
    return jax.tree.map(lambda leaf: leaf[0, 0], state.carried)


@pytest.fixture(scope="module")
def beside(method, one, carried, frozen, supports):
    """What its predictions need that training does not change."""
    adapter, settings, _, _ = one
    learned = method.fit(adapter, carried, settings, frozen.params, supports[0])[0] if supports else adapter
    return {name: leaf for name, leaf in learned.items() if name not in adapter}


@pytest.fixture(scope="module")
def stepwise(method):
    """For tests of steps."""
    if not method.steps:
        pytest.skip("it is fitted without steps")


def equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def everything(name, method, carried, beside):
    """All functions of a method, compiled together."""

    @jax.jit
    def call(adapter, settings, frozen, seen, labels):
        learned = adapter | beside
        classes = method.classes(learned, settings, frozen)
        found = {
            "classes": classes,
            "logits": method.logits(learned, settings, frozen.params, classes, seen),
            "features": {}
            if name in WITHOUT_FEATURES
            else method.features(learned, settings, frozen.params, seen),
            "weights": method.weights(learned, settings),
        }
        if not method.steps:
            return found
        differentiate = jax.value_and_grad(method.loss, has_aux=True)
        (total, parts), gradient = differentiate(adapter, settings, frozen, seen, labels, carried)
        return found | {"loss": total, "parts": parts, "gradient": gradient}

    return call


def test_what_it_returns_has_the_shapes_that_are_promised(name, method, everything, one, frozen):
    adapter, settings, seen, labels = one
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(adapter))
    like = method.settings_like()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), like) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), settings
    )
    paths, width = len(method.paths), method.split.config.embed_dim
    assert method.paths[0] == "class"
    found = everything(adapter, settings, frozen, seen, labels)
    assert found["logits"].shape == (BATCH, paths, CLASSES)
    if name not in WITHOUT_FEATURES:
        assert found["features"].shape == (BATCH, paths, width)
        np.testing.assert_allclose(np.linalg.norm(found["features"], axis=-1), 1, rtol=1e-5)
    assert found["weights"].shape == (paths,)
    np.testing.assert_allclose(found["weights"].sum(), 1, rtol=1e-6)


@pytest.mark.usefixtures("stepwise")
def test_its_loss_has_the_parts_that_are_promised(everything, one, frozen):
    adapter, settings, seen, labels = one
    found = everything(adapter, settings, frozen, seen, labels)
    assert (found["loss"].shape, found["loss"].dtype) == ((), jnp.float32)
    assert np.isfinite(found["loss"])
    parts = found["parts"]
    assert 0 <= parts["accuracy"] <= 1
    assert all(part.shape == () and np.isfinite(part) for part in parts.values())
    assert not {"loss", "gradient_norm", "learning_rate"} & parts.keys()  # the step's own
    assert {name: leaf.shape for name, leaf in found["gradient"].items()} == {
        name: leaf.shape for name, leaf in adapter.items()
    }


def test_its_maps_sum_up_to_its_logits(name, method, everything, one, beside, frozen, batches):
    adapter, settings, seen, labels = one
    if name in WITHOUT_MAPS:
        with pytest.raises(UserError, match="There are no maps of"):
            method.read_out(adapter | beside, settings, frozen.params)
        return
    found, config = everything(adapter, settings, frozen, seen, labels), method.split.config
    pixels = vision.normalize(batches[0][0][0], config)
    texts = jnp.broadcast_to(found["classes"], (BATCH, *found["classes"].shape))

    @jax.jit
    def locate(adapter, settings, params):
        read = method.read_out(adapter, settings, params)
        return places.locate(read, config, pixels, texts)

    parts = locate(adapter, settings, frozen.params)
    scale = float(logit_scale(frozen.params))
    np.testing.assert_allclose(parts.total() / scale, found["logits"] / scale, atol=1e-5)  # cosines, of float32 sums
    np.testing.assert_allclose(parts.attention[:, :, -1].sum(-1), 1, rtol=1e-5)


def test_it_is_pure_and_deterministic(everything, one, frozen):
    adapter, settings, seen, labels = one
    before = jax.tree.map(np.array, (adapter, settings, frozen, seen))
    equal(*(everything(adapter, settings, frozen, seen, labels) for _ in range(2)))
    equal(before, (adapter, settings, frozen, seen))
    assert everything._cache_size() == 1


def test_its_structure_says_all_that_it_is(method):
    structure = json.loads(json.dumps(method.structure()))
    again = type(method).restore(structure, method.split.config, method.split.dtype)
    assert again == method
    assert hash(again) == hash(method)
    spread = method.spread(2, 3)
    assert (spread.split.class_shards, spread.split.class_chunk) == (2, 3)
    assert spread.structure() == method.structure()


@pytest.mark.usefixtures("stepwise")
def test_a_fresh_adapter_depends_on_its_seed_alone(program, frozen, supports):
    def fresh(*seeds):
        runs, own = dataclasses.replace(RUNS, seeds=seeds), supports[-len(seeds) :]
        return programs_of.fresh_state(program, runs, frozen.params, frozen.prompts, own)

    together, alone = fresh(1, 2), fresh(2)
    equal(jax.tree.map(lambda leaf: leaf[1:], together), alone)


@pytest.mark.usefixtures("stepwise")
def test_images_beyond_the_labels_count_for_nothing(method, everything, one, carried, frozen, batches):
    adapter, settings, seen, labels = one
    images = batches[0][0][0]
    more = jax.jit(method.split.look)(frozen.params, jnp.concatenate([images, 255 - images[:2]]))
    found = jax.jit(method.loss)(adapter, settings, frozen, more, labels, carried)
    expected = everything(adapter, settings, frozen, seen, labels)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), found, (expected["loss"], expected["parts"])
    )


def run_steps(update, state, program, frozen, batches):
    for images, labels in batches:
        state, metrics = update(state, frozen, images, labels, program.settings, program.rates)
    return state, metrics


@pytest.fixture(scope="module")
def update(method):
    """The step of any number of runs, which follow one another."""
    return jax.jit(functools.partial(step.train_runs, axes.in_turn, method, RUNS.optimizer, LENGTH))


def test_what_a_finished_run_has_is_what_its_file_must_have(program, method, one, beside, frozen):
    like = method.learned_like(frozen.params, CLASSES, program.starts[0])
    assert {name: leaf.shape for name, leaf in like.items()} == {
        name: leaf.shape for name, leaf in (one[0] | beside).items()
    }
    trained = method.adapter_like(frozen.params, CLASSES, program.starts[0])
    assert {name: leaf.shape for name, leaf in trained.items()} == {name: leaf.shape for name, leaf in one[0].items()}


@pytest.fixture(scope="module")
def together(stepwise, update, state, program, frozen, batches):
    """Two steps of all runs on one device."""
    return run_steps(update, state, program, frozen, batches)


def test_steps_change_every_leaf_of_the_adapter_and_nothing_else(update, together, program, state, frozen, batches):
    before = jax.tree.map(np.array, frozen)
    (new, metrics), old = together, state.adapter
    for leaf in old:
        assert (np.asarray(old[leaf]) != np.asarray(new.adapter[leaf])).any(), f"{leaf} does not move"
    np.testing.assert_array_equal(new.step, 2)
    assert {"loss", "gradient_norm", "accuracy"} <= metrics.keys()
    run_steps(update, state, program, frozen, batches)
    assert update._cache_size() == 1
    equal(before, frozen)


def test_side_by_side_they_give_what_they_give_in_turn(together, method, state, program, frozen, batches):
    """Seeds and variants are independent: each gives what it gives alone, whatever stands beside it."""
    update = jax.jit(functools.partial(step.train_runs, jax.vmap, method, RUNS.optimizer, LENGTH))
    found = run_steps(update, state, program, frozen, batches)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), found, together)


def test_four_devices_give_what_one_gives(together, program, state, frozen, batches, token_ids):
    mesh = Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("run", "data"))
    specs = sharding.BY_SEED
    runs = dataclasses.replace(RUNS, mesh=mesh, specs=specs)
    spread = program.spread(2, 0)
    prompts = spread.method.encode_prompts(frozen.params, token_ids)
    placed = Frozen(sharding.place(frozen.params, mesh, sharding.REPLICATED), sharding.place_prompts(prompts, mesh))
    update = programs_of.make_step(spread.method, runs, runs.shape(program))
    fixed = sharding.place((program.settings, program.rates), mesh, specs.settings)
    current = sharding.place(jax.tree.map(np.array, state), mesh, specs.runs)
    for images, labels in batches:
        images, labels = sharding.place(images, mesh, specs.images), sharding.place(labels, mesh, specs.labels)
        current, metrics = update(current, placed, images, labels, *fixed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), (current, metrics), together)


SMALL = dict(
    data__shots=1,
    train__epochs=2,
    train__batch_size=5,
    optimizer__warmup_epochs=0,
    seeds=(1, 2),
    eval__batch_size=50,
    data__cache_gb=0.1,
    train__keep_checkpoints=5,
)


def small_of(name):
    """Of a method without steps no epochs can be asked for."""
    steps = recipes.of(name, "few_shot", "world_objects", 1)["train.epochs"]
    return SMALL if steps else {key: value for key, value in SMALL.items() if key != "train__epochs"}


@pytest.fixture(scope="module")
def small(name, tiny_clip):
    """Makes the config of a short run on the embedded world."""

    def make(**changes):
        config = config_of(name, **small_of(name), backbone=tiny_clip, **changes)
        return values.set_all(config, WITHOUT_ROLES.get(name, {}))

    return make


@pytest.fixture(scope="module")
def trained(name, small, tmp_path_factory, compilation_cache, few_test_scenes):
    """A short run."""
    workdir = tmp_path_factory.mktemp(name) / "run"
    start_job(small(), workdir)
    return workdir


def start_job(config, workdir):
    job = jobs.find(config.job).load()
    job.run(job.make_plan(config), workdir)


def describe_job(config):
    job, description = jobs.find(config.job).load(), Description()
    job.describe(job.make_plan(config), description)
    description.finish()


def test_a_run_leaves_its_results_under_the_title_of_the_method(name, method, trained):
    results = json.loads((trained / "results.json").read_text())
    assert results["method"] == name
    assert f"| {methods.METHODS[name].TITLE}, seed 1 |" in (trained / "results.md").read_text()
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert ({"loss", "accuracy", "gradient_norm"} if method.steps else {"step", "fit"}) <= rows[0].keys()
    assert ["fit" in row for row in rows].count(True) == (method.wanted is not None)


def test_a_run_that_was_killed_ends_like_one_that_was_not(method, small, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    if not method.steps:
        (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    steps = [int(step.name) for step in (tmp_path / "run" / "checkpoints").iterdir() if step.name.isdigit()]
    first, *later = sorted(steps) if method.steps else [0]
    for number in later:
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(number))
    for file in ("results.json", "results.md", adapter_file.NAME):
        (tmp_path / "run" / file).unlink()
    start_job(small(), tmp_path / "run")
    if method.steps:
        assert f"Going on from the checkpoint of step {first}" in capsys.readouterr().out
    assert (tmp_path / "run" / adapter_file.NAME).read_bytes() == (trained / adapter_file.NAME).read_bytes()


def test_evaluation_repeats_what_training_measured(small, trained, tmp_path):
    start_job(small(job="evaluate", run=str(trained)), tmp_path / "evaluation")
    ours, theirs = (json.loads((path / "results.json").read_text()) for path in (tmp_path / "evaluation", trained))
    assert ours["variants"] == theirs["variants"]
    assert ours["zero_shot"] == theirs["zero_shot"]


def test_it_classifies_and_retrieves(name, small, trained, tmp_path):
    classifier = Classifier.load(str(trained), batch_size=4)
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    prediction = classifier([image])
    np.testing.assert_allclose(prediction.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert tuple(prediction.paths) == classifier.paths
    if name in WITHOUT_MAPS:
        with pytest.raises(UserError, match="There are no maps of"):
            classifier([image], explain=True)
    else:
        (explained,) = classifier([image], explain=True).explanations
        assert [one.path for one in explained] == ["all paths", "zero-shot CLIP", *classifier.paths]
    config = small(job="retrieve", run=str(trained), retrieve__queries=4, retrieve__shown=1)
    if name in WITHOUT_FEATURES:
        with pytest.raises(UserError, match="learns no features of images"):
            describe_job(config)
        with pytest.raises(UserError, match="learns no features of images"):
            start_job(config, tmp_path / "retrieval")
        return
    start_job(config, tmp_path / "retrieval")
    found = json.loads((tmp_path / "retrieval" / "retrieval.json").read_text())
    assert set(found["features"]) == {"zero-shot CLIP", *classifier.paths}


def test_its_dry_run_finds_no_problem(small, compilation_cache, capsys):
    describe_job(small())
    out = capsys.readouterr().out
    assert "trainable parameters" in out
    assert "No problem found." in out


def test_its_programs_can_be_planned_without_data(name):
    plan = compile_plans.make_plan(config_of(name, **small_of(name), compile__classes=3))
    for planned in plan_programs(plan, jax.devices()):
        planned.function.trace(*planned.arguments)


def test_its_keys_are_known_and_checked(name):
    config = values.set_all(few_shot.get_config("world_objects"), {"method": name})
    checks.check(recipes.resolve(config), trains=True)
    entry = methods.METHODS[name]
    assert values.read(entry.Options, config[name]) == entry.Options()
    keys = {key.removeprefix(f"{name}.") for key in values.flatten(config) if key.startswith(f"{name}.")}
    assert {*entry.ARRAYS, *entry.STRUCTURAL} <= keys


