"""The batches of pretraining: reproducible, with true patch targets and true negatives."""

import numpy as np

from dear_jax.data.world import pretraining
from dear_jax.data.world.captions import vocabulary
from dear_jax.data.world.scenes import SIZES

WORDS = {word: index for index, word in enumerate(vocabulary(), start=1)}


def tokenize(texts: list[str]) -> np.ndarray:
    """Word numbers, padded with zeros: enough to read a caption back."""
    rows = [[WORDS[word] for word in text.strip(".").split()] for text in texts]
    return np.array([row + [0] * (20 - len(row)) for row in rows])


def take(steps: int, **changes: int) -> list[pretraining.Batch]:
    arguments = {"seed": 0, "steps": steps, "batch_size": 24, "patch_size": 8, **changes}
    return list(pretraining.batches(tokenize=tokenize, **arguments))


def test_a_step_always_gets_the_same_batch() -> None:
    long, short, other = take(5), take(2), take(2, seed=1)
    assert [len(long), len(short)] == [5, 2]
    for one, again in zip(long, short, strict=False):
        for left, right in zip(one, again, strict=True):
            np.testing.assert_array_equal(left, right)
    assert (short[0].images != other[0].images).any()
    assert (long[0].images != long[1].images).any()


def test_shapes_and_coverage() -> None:
    batch = take(1)[0]
    assert batch.images.shape == (24, 48, 48, 3)
    assert batch.token_ids.shape == (24 + sum(SIZES), 20)
    assert batch.coverage.shape == (24, 36)
    assert 0 <= batch.coverage.min() <= batch.coverage.max() <= 1
    shares = batch.coverage.mean(1)
    assert shares.min() > 0.05
    assert shares.max() < 0.3


def test_the_same_caption_is_never_a_negative() -> None:
    for batch in take(4):
        captions = batch.token_ids[:24]
        same = (captions[:, None] == captions[None]).all(-1) & ~np.eye(24, dtype=bool)
        assert batch.also_true[same].all()
        assert not batch.also_true.diagonal().any()


def test_patch_means() -> None:
    values = np.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(pretraining.patch_means(values, 2), [[2.5, 4.5, 10.5, 12.5]])


def test_held_out_scenes_are_not_trained_on() -> None:
    images, labels = pretraining.held_out(24)
    assert labels.shape == (24, len(SIZES))
    assert (images != take(1)[0].images).any(axis=(1, 2, 3)).all()
