"""Batches: what each seed sees, in which order, and that nothing else has a say in it."""

import itertools
import json
import os
import subprocess
import sys

import grain
import numpy as np
import pytest

from dear_jax.data import pipeline, transforms
from dear_jax.data.image_dataset import ImageDataset, ImageSplit
from dear_jax.errors import UserError
from tests.repository import REPOSITORY

N, SIZE, BATCH, EPOCHS = 10, 8, 3, 3  # three batches an epoch, one image left over
OPTIONS = dict(batch_size=BATCH, epochs=EPOCHS, image_size=SIZE, crop_scale=(0.5, 1.0))


def noise_split(seed: int = 0, count: int = N, height: int = 12, width: int = 15) -> ImageSplit:
    """Images without any order in them, so that every crop and every flip shows."""
    shape = (count, height, width, 3)
    images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return ImageSplit(np.arange(count) % 4, lambda index: images[index].copy())


def numbered_split(count: int = N) -> ImageSplit:
    """Image i is uniformly of brightness i, whatever is cut out of it."""
    return ImageSplit(np.arange(count), lambda index: np.full((12, 15, 3), index, np.uint8))


def listed(batches) -> list[dict[str, np.ndarray]]:
    return [{key: np.array(array) for key, array in batch.items()} for batch in batches]


def assert_same(ours, expected) -> None:
    assert len(ours) == len(expected)
    for our, other in zip(ours, expected, strict=True):
        assert our.keys() == other.keys()
        for key in other:
            np.testing.assert_array_equal(our[key], other[key])


def test_shapes_and_length():
    batches = pipeline.train_batches([noise_split(1), noise_split(2)], (1, 2), **OPTIONS)
    assert len(batches) == EPOCHS * (N // BATCH)
    drawn = listed(batches)
    assert len(drawn) == len(batches)
    for batch in drawn:
        assert batch["image"].shape == (2, BATCH, SIZE, SIZE, 3)
        assert batch["image"].dtype == np.uint8
        assert batch["label"].shape == (2, BATCH)
        assert batch["label"].dtype == np.int32


def test_each_epoch_is_another_permutation_less_the_rest():
    batches = listed(pipeline.train_batches([numbered_split()] * 2, (1, 2), **OPTIONS))
    orders = np.stack([batch["image"][..., 0, 0, 0] for batch in batches], axis=1)  # [S, steps, B]
    np.testing.assert_array_equal(orders, np.stack([batch["label"] for batch in batches], axis=1))
    epochs = orders.reshape(2 * EPOCHS, -1)
    for order in epochs:
        assert len(set(order)) == len(order) == N - 1
    assert len({tuple(order) for order in epochs}) == len(epochs)


def test_every_image_is_seen_over_the_epochs():
    options = OPTIONS | {"epochs": 200}
    seen = np.bincount(
        np.concatenate(
            [batch["label"].ravel() for batch in pipeline.train_batches([numbered_split()], (7,), **options)]
        ),
        minlength=N,
    )
    assert seen.sum() == 200 * (N - 1)
    assert seen.min() > 160  # 180 expected, standard deviation 4.2
    assert seen.max() <= 200


def test_epochs_and_seeds_augment_differently():
    one_image = noise_split(count=1, height=40, width=50)  # boxes hardly ever coincide
    options = OPTIONS | {"batch_size": 1, "epochs": 8}
    batches = listed(pipeline.train_batches([one_image, one_image], (1, 2), **options))
    views = {batch["image"][seed].tobytes() for batch in batches for seed in range(2)}
    assert len(views) == 16


def test_a_seed_does_not_depend_on_the_others():
    first, second = noise_split(1), noise_split(2)
    together = listed(pipeline.train_batches([first, second], (1, 2), **OPTIONS))
    alone = listed(pipeline.train_batches([second], (2,), **OPTIONS))
    assert_same([{key: array[1:] for key, array in batch.items()} for batch in together], alone)


def test_threads_and_processes_change_nothing(monkeypatch):
    split = noise_split()
    expected = listed(pipeline.train_batches([split], (3,), **OPTIONS))
    evaluated = listed(pipeline.eval_batches(split, 4, SIZE))
    for threads in (0, 1, 5):
        monkeypatch.setattr(pipeline, "THREADS", threads)
        assert_same(listed(pipeline.train_batches([split], (3,), **OPTIONS)), expected)
        assert_same(listed(pipeline.eval_batches(split, 4, SIZE)), evaluated)

    threaded = pipeline.train_batches([split], (3,), **OPTIONS)
    listed(itertools.islice(threaded, 4))
    spawned = pipeline.train_batches([split], (3,), workers=2, **OPTIONS)
    spawned.set_state(threaded.get_state())  # a resumed run may have another number of workers
    assert_same(listed(spawned), expected[4:])
    spawned.close()
    assert_same(listed(pipeline.eval_batches(split, 4, SIZE, workers=1)), evaluated)


@pytest.mark.parametrize("step", [0, 1, 3, 8, 9])
def test_resuming_gives_the_batches_that_would_have_come(step):
    def make():
        return pipeline.train_batches([noise_split(1), noise_split(2)], (1, 2), **OPTIONS)

    expected = listed(make())
    stopped = make()
    listed(itertools.islice(stopped, step))
    state = json.loads(json.dumps(stopped.get_state()))
    stopped.close()

    resumed = make()
    resumed.set_state(state)
    assert resumed.get_state() == state
    assert_same(listed(resumed), expected[step:])
    resumed.set_state(state)  # back from the end
    assert_same(listed(resumed), expected[step:])
    with pytest.raises(StopIteration):
        next(resumed)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (9, 3), (10, 10), (10, 1), (11, 4)])
def test_an_epoch_drops_what_makes_no_whole_batch(count, batch_size):
    options = OPTIONS | {"batch_size": batch_size}
    assert len(pipeline.train_batches([numbered_split(count)], (1,), **options)) == EPOCHS * (count // batch_size)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 9, 14])
def test_steps_that_are_counted_are_those_of_as_many_epochs_as_they_take(steps):
    """Fewer than an epoch has, a whole one, and more than the epochs that are given have."""
    options = OPTIONS | {"epochs": -(-steps // 3)}
    expected = listed(pipeline.train_batches([noise_split(1), noise_split(2)], (1, 2), **options))[:steps]
    for epochs in (1, EPOCHS):
        options = OPTIONS | {"epochs": epochs, "steps": steps}
        batches = pipeline.train_batches([noise_split(1), noise_split(2)], (1, 2), **options)
        assert len(batches) == steps
        assert_same(listed(batches), expected)


@pytest.mark.parametrize("step", [0, 2, 3, 5, 6, 7])
def test_resuming_within_counted_steps_gives_the_batches_that_would_have_come(step):
    """Within an epoch, between two, and in the last one, which is cut short."""

    def make():
        return pipeline.train_batches([noise_split(1), noise_split(2)], (1, 2), **(OPTIONS | {"steps": 7}))

    expected = listed(make())
    stopped = make()
    listed(itertools.islice(stopped, step))
    state = json.loads(json.dumps(stopped.get_state()))
    stopped.close()
    resumed = make()
    resumed.set_state(state)
    assert_same(listed(resumed), expected[step:])
    with pytest.raises(StopIteration):
        next(resumed)
    with pytest.raises(ValueError, match="expected a step of 0 to 7"):
        resumed.set_state({"step": 8})


def test_state_is_a_grain_iterators_and_checked():
    batches = pipeline.train_batches([noise_split()], (1,), **OPTIONS)
    assert isinstance(batches, grain.DatasetIterator)
    for step in (-1, len(batches) + 1):
        with pytest.raises(ValueError, match="expected a step of 0 to 9"):
            batches.set_state({"step": step})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": N + 1}, rf"train\.batch_size: expected 1 to {N}.*found {N + 1}"),
        ({"batch_size": 0}, r"train\.batch_size"),
        ({"epochs": 0}, r"train\.epochs"),
        ({"crop_scale": (0.0, 1.0)}, r"data\.crop_scale"),
        ({"crop_scale": (0.9, 0.5)}, r"data\.crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, r"data\.crop_scale"),
        ({"crop_scale": (0.5,)}, r"data\.crop_scale"),
    ],
)
def test_bad_settings_name_their_key(changed, message):
    with pytest.raises(UserError, match=message):
        pipeline.train_batches([noise_split()], (1,), **(OPTIONS | changed))


def test_negative_seed_is_refused():
    with pytest.raises(UserError, match="seeds: expected numbers"):
        pipeline.train_batches([noise_split()], (-1,), **OPTIONS)


def test_the_whole_set_is_the_largest_batch():
    (batch,) = listed(pipeline.train_batches([numbered_split()], (1,), **(OPTIONS | {"batch_size": N, "epochs": 1})))
    assert sorted(batch["label"][0]) == list(range(N))


@pytest.mark.parametrize(
    ("cache_images", "loads"),
    [(0, EPOCHS * (N - 1)), (N, N), (4, None)],
)
def test_cache_saves_loads_and_changes_nothing(monkeypatch, cache_images, loads):
    monkeypatch.setattr(pipeline, "THREADS", 0)  # so that the count is exact
    split = noise_split()
    expected = listed(pipeline.train_batches([split], (1,), **OPTIONS))
    calls: list[int] = []

    def load(index: int) -> np.ndarray:
        calls.append(index)
        return split.load(index)

    limit = cache_images * split.load(0).nbytes
    counted = ImageSplit(split.labels, load)
    options = OPTIONS | {"cache_bytes": limit}
    assert_same(listed(pipeline.train_batches([counted], (1,), **options)), expected)
    if loads is not None:
        assert len(calls) == loads
    else:
        assert N < len(calls) < EPOCHS * (N - 1)


PASSES = dict(image_size=SIZE, crop_scale=(0.5, 1.0))


def test_passes_see_every_image_in_its_order_again_and_again():
    batches = listed(pipeline.pass_batches(numbered_split(), 1, 3, 4, **PASSES))
    seen = np.concatenate([batch["image"][batch["valid"]] for batch in batches])
    np.testing.assert_array_equal(seen[:, 0, 0, 0], np.tile(np.arange(N), 3))
    assert [batch["valid"].sum() for batch in batches] == [4] * 7 + [2]


def test_passes_crop_anew_by_seed_and_place_alone():
    def look(seed, batch_size=N, **options):
        batches = listed(pipeline.pass_batches(split, seed, 2, batch_size, **PASSES, **options))
        images = np.concatenate([batch["image"][batch["valid"]] for batch in batches])
        return images.reshape(2, N, SIZE, SIZE, 3)

    split = noise_split(height=40, width=50)  # boxes hardly ever coincide
    first = look(1)
    np.testing.assert_array_equal(first, look(1, batch_size=3, cache_bytes=0))
    own = np.array([True, False, True])
    parts = look(1, batch_size=3, own=own)
    mine = np.resize(own, 2 * N).reshape(2, N)
    np.testing.assert_array_equal(parts[mine], first[mine])
    assert not parts[~mine].any()
    assert all((one != other).any() for one, other in zip(first[0], first[1], strict=True))
    assert (first != look(2)).any(axis=(2, 3, 4)).all()


def test_errors_of_a_loader_reach_the_caller():
    def load(index: int) -> np.ndarray:
        raise UserError(f"image {index} is broken")

    broken = ImageSplit(np.zeros(N, int), load)
    with pytest.raises(UserError, match="is broken"):
        next(pipeline.train_batches([broken], (1,), **OPTIONS))
    with pytest.raises(UserError, match="image 0 is broken"):
        next(iter(pipeline.eval_batches(broken, 4, SIZE)))


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 4), (1, 1)])
def test_evaluation_sees_every_image_once(count, batch_size):
    split = noise_split(count=count)
    batches = pipeline.eval_batches(split, batch_size, SIZE)
    drawn = listed(batches)
    assert len(drawn) == -(-count // batch_size)
    for batch in drawn:
        assert batch["image"].shape == (batch_size, SIZE, SIZE, 3)
        assert batch["label"].dtype == np.int32
        assert batch["valid"].dtype == bool
        assert not batch["image"][~batch["valid"]].any()
        assert not batch["label"][~batch["valid"]].any()
    valid = np.concatenate([batch["valid"] for batch in drawn])
    np.testing.assert_array_equal(valid, np.arange(valid.size) < count)
    images = np.concatenate([batch["image"] for batch in drawn])[valid]
    labels = np.concatenate([batch["label"] for batch in drawn])[valid]
    np.testing.assert_array_equal(labels, split.labels)
    for index in range(count):
        np.testing.assert_array_equal(images[index], transforms.resize_and_crop(split.load(index), SIZE))
    assert_same(listed(batches), drawn)  # a second pass


def test_evaluation_of_images_of_the_models_size_is_the_identity():
    split = noise_split(height=SIZE, width=SIZE)
    (batch,) = listed(pipeline.eval_batches(split, N, SIZE))
    np.testing.assert_array_equal(batch["image"], [split.load(index) for index in range(N)])


def test_evaluating_nothing_is_refused():
    with pytest.raises(UserError, match="no images"):
        pipeline.eval_batches(noise_split().subset([]), 4, SIZE)


def test_classes_kept_are_relabelled_with_their_images():
    split = numbered_split()  # labels 0..9, each with one image
    dataset = ImageDataset("numbers", tuple("abcdefghij"), "a {}", split, split, split)
    kept = dataset.keep_classes([7, 2]).test.subset([1, 0])
    assert dataset.keep_classes([7, 2]).class_names == ("h", "c")
    assert kept.labels.tolist() == [0, 1]
    assert [kept.load(index)[0, 0, 0] for index in range(2)] == [7, 2]
    with pytest.raises(ValueError, match="expected 0 to 9, got 3 to 10"):
        split.subset([3, 10])
    with pytest.raises(ValueError, match="expected labels 0 to 8, got 0 to 9"):
        ImageDataset("numbers", tuple("abcdefghi"), "a {}", split, split, split)


def test_workers_of_a_script_without_a_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from dear_jax.data import pipeline, unlabelled\n"
        "images = unlabelled.gather([np.zeros((8, 8, 3), np.uint8)] * 4)\n"
        "list(pipeline.eval_batches(images, 2, 8, workers=2))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert lines[-1].startswith("dear_jax.errors.UserError: workers is 2, and each of these processes runs the main")
    assert 'if __name__ == "__main__":' in lines[-1]
    assert len(lines) < 15, done.stderr


@pytest.mark.parametrize(
    ("count", "most", "size"), [(1, 100, 1), (2, 100, 2), (3, 100, 4), (60, 100, 64), (65, 100, 100), (999, 100, 100)]
)
def test_batches_fit_few_images(count, most, size):
    assert pipeline.fitting(count, most) == size
