"""From splits to batches, by grain: shuffling, decoding, preprocessing, ahead of the training step.

In: one `ImageSplit` per seed for training, one for evaluation. Out: batches of NumPy arrays, images
uint8 of the model's size. What a seed sees is a pure function of its split, the seed and the step:
it does not depend on how many threads or processes prepare it, on the other seeds, or on where an
interrupted run resumed.
"""

import dataclasses
import functools
import multiprocessing
import os
from collections.abc import Generator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from dear_jax.data import transforms
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError

Batch = dict[str, np.ndarray]
Example = dict[str, Any]  # an image, or None where another process prepares it, and its label

THREADS = min(16, os.cpu_count() or 1)  # that prepare batches where there are no workers
UNGUARDED = 86  # exit code of a worker whose main script would start workers in turn
CACHE_BYTES = 1 << 30  # of decoded training images held in memory, over all seeds and processes


def train_batches(
    splits: Sequence[ImageSplit],
    seeds: Sequence[int],
    *,
    batch_size: int,
    epochs: int,
    steps: int = 0,
    image_size: int,
    crop_scale: tuple[float, float],
    flip: bool = True,
    workers: int = 0,
    cache_bytes: int = CACHE_BYTES,
    own: np.ndarray | None = None,
) -> "TrainBatches":
    """The batches of a whole training run, each of S seeds with its own images, order and crops.

    An epoch is floor(N / batch_size) batches of a fresh permutation of the N images; what is left
    over is dropped, as Dassl does.

    Args:
        splits: S splits of the same number N of images, one per seed.
        seeds: S numbers in [0, 2^32), each all that decides order and augmentation of its split.
        batch_size: B, images per seed and batch.
        epochs: passes over the images.
        steps: batches in all, from as many passes as they take; 0: those of `epochs`.
        image_size: pixels, of the model's input.
        crop_scale: least and greatest area share of the random resized crop, in (0, 1].
        flip: whether to mirror half of the images.
        workers: processes that prepare batches; 0: threads of this process.
        cache_bytes: memory for decoded images, in all; 0: decode again each epoch.
        own: bool [S, B], the images of a batch that this process prepares, the others stay black; None: all.

    Returns:
        An iterator over {"image": uint8 [S, B, size, size, 3], "label": int32 [S, B]}.
    """
    _check_training(splits, seeds, batch_size, epochs, crop_scale)
    augment = functools.partial(_augment, size=image_size, scale=crop_scale, flip=flip)
    share = cache_bytes // (len(splits) * max(1, workers))
    kept = len(splits[0]) // batch_size * batch_size
    epochs = -(-steps * batch_size // kept) if steps else epochs
    own = np.ones((len(splits), batch_size), bool) if own is None else own
    streams = [
        grain.MapDataset.source(_Epochs(split.cached(share), seed, epochs, kept, rows))
        .seed(seed)
        .random_map(augment)
        .batch(batch_size, batch_fn=functools.partial(_stack_images, size=image_size))
        for split, seed, rows in zip(splits, seeds, own, strict=True)
    ]
    batches = grain.experimental.ZipMapDataset(streams).map(_stack)
    return TrainBatches(batches[:steps] if steps else batches, workers)


def fitting(count: int, most: int) -> int:
    """A size of batches for so many images: the least power of two that holds all, and `most` at most.

    So one photo costs one, and whatever numbers of images come, there are log2(most) + 2 sizes to compile at most.
    """
    return min(most, 1 << max(0, count - 1).bit_length())


def eval_batches(
    split: ImageSplit,
    batch_size: int,
    image_size: int,
    workers: int = 0,
    skip_bad: bool = False,
    own: np.ndarray | None = None,
) -> "Ahead":
    """Every image of the split once, in its order, in ceil(N / batch_size) batches.

    Args:
        split: the images.
        batch_size: B.
        image_size: pixels, of the model's input.
        workers: processes that prepare batches; 0: threads of this process.
        skip_bad: an image that cannot be read is black and not valid, instead of ending the iteration.
        own: bool [B], the images of a batch that this process prepares, the others stay black; None: all.

    Returns:
        An iterable (again and again) over {"image": uint8 [B, size, size, 3], "label": int32 [B],
        "valid": bool [B]}; black images of label 0, not valid, fill up the last batch.
    """
    if not len(split):
        raise UserError("The split to evaluate on has no images; choose another one, or add some.")
    batches = (
        grain.MapDataset.source(
            (_Readable if skip_bad else _Examples)(split, np.ones(batch_size, bool) if own is None else own)
        )
        .map(functools.partial(_resize_and_crop, size=image_size))
        .batch(batch_size, batch_fn=functools.partial(_pad, batch_size=batch_size, size=image_size))
    )
    return Ahead(batches, workers)


def pass_batches(
    split: ImageSplit,
    seed: int,
    passes: int,
    batch_size: int,
    *,
    image_size: int,
    crop_scale: tuple[float, float],
    flip: bool = True,
    workers: int = 0,
    cache_bytes: int = CACHE_BYTES,
    own: np.ndarray | None = None,
) -> "Ahead":
    """Every image of the split in its order, so many times, cropped and mirrored anew as in training.

    Args:
        split: N images.
        seed: a number in [0, 2^32), which decides crops and mirroring; those of `train_batches` are others.
        passes: how many times.
        batch_size: B.
        image_size: pixels, of the model's input.
        crop_scale: least and greatest area share of the random resized crop, in (0, 1].
        flip: whether to mirror half of the images.
        workers: processes that prepare batches; 0: threads of this process.
        cache_bytes: memory for decoded images; 0: decode again each time.
        own: bool [B], the images of a batch that this process prepares, the others stay black; None: all.

    Returns:
        An iterable over batches as those of `eval_batches`, which go on from one pass to the next.
    """
    split = split.cached(cache_bytes // max(1, workers))
    (stream,) = np.random.SeedSequence([seed, 1]).generate_state(1).tolist()
    batches = (
        grain.MapDataset.source(_Passes(split, passes, np.ones(batch_size, bool) if own is None else own))
        .seed(stream)
        .random_map(functools.partial(_augment, size=image_size, scale=crop_scale, flip=flip))
        .batch(batch_size, batch_fn=functools.partial(_pad, batch_size=batch_size, size=image_size))
    )
    return Ahead(batches, workers)


class TrainBatches(grain.DatasetIterator[Batch]):
    """Iterates over batches from any step on; its state is the number of batches given out.

    grain's own iterators save a state per worker process; one number lets a run resume with another
    number of workers. `len` is the number of batches of the whole run; `close` stops the threads or
    processes that run ahead.
    """

    def __init__(self, batches: grain.MapDataset[Batch], workers: int):
        super().__init__()
        self._batches = batches
        self._workers = workers
        self._step = 0
        self._iterator: Generator[Batch, None, None] | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def __next__(self) -> Batch:
        if self._step >= len(self):
            raise StopIteration
        if self._iterator is None:
            self._iterator = iter(Ahead(self._batches[self._step :], self._workers))
        batch = next(self._iterator)
        self._step += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """For the checkpoint: {"step": batches given out}."""
        return {"step": self._step}

    def set_state(self, state: dict[str, int]) -> None:
        """The next batch will be the one after `state["step"]` batches."""
        if not 0 <= state["step"] <= len(self):
            raise ValueError(f"state: expected a step of 0 to {len(self)}, got {state['step']}")
        self._stop()
        self._step = int(state["step"])

    def close(self) -> None:
        """Ends the iteration for good."""
        self._stop()
        super().close()

    def _stop(self) -> None:
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None


@dataclasses.dataclass(frozen=True)
class Ahead:
    """Batches that are prepared ahead, by threads here or in `workers` processes; any number of passes, each in order.

    Raises:
        UserError: the script that asks for workers starts again in each of them.
    """

    batches: grain.MapDataset[Batch]
    workers: int

    def __iter__(self) -> Generator[Batch, None, None]:
        threads = 1 if self.workers else THREADS
        ahead = self.batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 2))
        if self.workers:
            if getattr(multiprocessing.current_process(), "_inheriting", False):  # a worker that imports the script
                os._exit(UNGUARDED)  # at once, and without a word: the process that started it says what is wrong
            if not flags.FLAGS.is_parsed():  # grain's workers read flags; without `app.run` none are
                flags.FLAGS.mark_as_parsed()
            ahead = ahead.mp_prefetch(grain.MultiprocessingOptions(num_workers=self.workers, per_worker_buffer_size=2))
        try:
            yield from ahead
        except RuntimeError as error:
            if f"exit code {UNGUARDED}" not in str(error):
                raise
            raise UserError(
                f"workers is {self.workers}, and each of these processes runs the main script again: put what it does "
                'under if __name__ == "__main__": (the main guard), or leave workers out.'
            ) from None


class _Examples:
    """A split as a grain source, in its order; the images that are not this process's own are None."""

    def __init__(self, split: ImageSplit, own: np.ndarray):
        self._split = split
        self._own = own  # bool [B]

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, index: int) -> Example:
        return self._example(int(index), int(index))

    def _example(self, place: int, index: int) -> Example:
        """The image of the split that stands at this place of all batches in turn."""
        own = self._own[place % len(self._own)]
        label = self._split.labels[index].astype(np.int32)
        return {"image": self._split.load(index) if own else None, "label": label}


class _Readable(_Examples):
    """A split whose unreadable images are black and marked."""

    def __getitem__(self, index: int) -> Example:
        try:
            return super().__getitem__(index) | {"valid": np.array(True)}
        except UserError:
            label = self._split.labels[index].astype(np.int32)
            return {"image": np.zeros((1, 1, 3), np.uint8), "label": label, "valid": np.array(False)}


class _Passes(_Examples):
    """A split as a grain source, again and again in its order."""

    def __init__(self, split: ImageSplit, passes: int, own: np.ndarray):
        super().__init__(split, own)
        self._length = passes * len(split)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        return self._example(int(index), int(index) % len(self._split))


class _Epochs(_Examples):
    """A split as a grain source, `kept` of its images per epoch, each epoch in an order of its own.

    grain's own `shuffle` computes each index alone, which takes milliseconds for a small set: it
    walks through 2^16 numbers to find the few that are indices. A few-shot epoch fits into memory.
    """

    def __init__(self, split: ImageSplit, seed: int, epochs: int, kept: int, own: np.ndarray):
        super().__init__(split, own)
        self._seed = seed
        self._length = epochs * kept
        self._kept = kept

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        epoch, place = divmod(int(index), self._kept)
        return self._example(place, int(_order(self._seed, epoch, len(self._split))[place]))


@functools.lru_cache(maxsize=64)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


def _augment(
    example: Example,
    generator: np.random.Generator,
    *,
    size: int,
    scale: tuple[float, float],
    flip: bool,
) -> Example:
    image = example["image"]
    if image is not None:
        image = transforms.augment(image, size, generator, scale=scale, flip=flip)
    return {"image": image, "label": example["label"]}


def _resize_and_crop(example: Example, *, size: int) -> Example:
    if example["image"] is None:
        return example
    return example | {"image": transforms.resize_and_crop(example["image"], size)}


def _stack_images(examples: Sequence[Example], *, size: int) -> Batch:
    """A batch; the images that another process prepares are black."""
    images = np.zeros((len(examples), size, size, 3), np.uint8)
    for image, example in zip(images, examples, strict=True):
        if example["image"] is not None:
            image[:] = example["image"]
    return {"image": images} | {
        key: np.stack([example[key] for example in examples]) for key in examples[0] if key != "image"
    }


def _stack(examples: Sequence[Batch]) -> Batch:
    return {key: np.stack([example[key] for example in examples]) for key in examples[0]}


def _pad(examples: Sequence[Example], *, batch_size: int, size: int) -> Batch:
    batch = {"valid": np.ones(len(examples), dtype=bool)} | _stack_images(examples, size=size)
    missing = batch_size - len(examples)
    return {
        key: np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) for key, array in batch.items()
    }


def _check_training(
    splits: Sequence[ImageSplit],
    seeds: Sequence[int],
    batch_size: int,
    epochs: int,
    crop_scale: tuple[float, float],
) -> None:
    sizes = sorted({len(split) for split in splits})
    if len(sizes) != 1 or len(splits) != len(seeds):
        raise ValueError(f"expected a split of equal size per seed, got sizes {sizes}, seeds {seeds}")
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise UserError(f"seeds: expected numbers of 0 to 2^32 - 1, found {list(seeds)}.")
    if not 1 <= batch_size <= sizes[0]:
        raise UserError(
            f"config.train.batch_size: expected 1 to {sizes[0]}, the number of training images of each "
            f"seed, found {batch_size}; set it to {sizes[0]} at most, or raise data.shots."
        )
    if epochs < 1:
        raise UserError(f"config.train.epochs: expected at least 1, found {epochs}.")
    if not (len(crop_scale) == 2 and 0 < crop_scale[0] <= crop_scale[1] <= 1):
        raise UserError(
            f"config.data.crop_scale: expected the least and the greatest area share of the random crop, "
            f"0 < least <= greatest <= 1, found {tuple(crop_scale)}."
        )
