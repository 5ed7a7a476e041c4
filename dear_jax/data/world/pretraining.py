"""What pretraining on the embedded world sees: an endless stream of captioned scenes, in batches.

Comes in: a seed and a tokenizer. Goes out: `Batch`, NumPy arrays; step i always gets the same batch.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from dear_jax.data.world.captions import TEMPLATES, attribute_phrases, draw_captions
from dear_jax.data.world.render import render, render_with_coverage
from dear_jax.data.world.scenes import NAMES, draw_scenes
from dear_jax.data.world.tasks import stream_seed

PREFETCH = 3  # batches prepared ahead

Tokenize = Callable[[Sequence[str]], np.ndarray]


class Batch(NamedTuple):
    """One training step's data: B captioned pictures, and prompts for every value of every attribute."""

    images: np.ndarray  # uint8 [B, h, w, 3]
    labels: np.ndarray  # int32 [B, 6], columns as in `scenes.NAMES`
    coverage: np.ndarray  # float32 [B, P], share of each patch that the body covers
    token_ids: np.ndarray  # int32 [B + prompts, T]: the captions, then the prompts
    also_true: np.ndarray  # bool [B, B], caption j is true of image i although it was not written for it


def batches(
    seed: int, steps: int, batch_size: int, patch_size: int, tokenize: Tokenize, first: int = 0
) -> Iterator[Batch]:
    """The batches of all steps after the `first`, in order, prepared ahead by a thread (NumPy releases Python's lock).

    Args:
        seed: of the stream of scenes and of the captions.
        steps: how many batches.
        batch_size: pictures of a batch.
        patch_size: of the patches that `coverage` speaks of, pixels.
        tokenize: texts to ids of one fixed length, so that no step is compiled twice.
        first: steps that are left out.
    """
    prompts = [attribute_prompts(template) for template in TEMPLATES]
    stream = stream_seed(f"pretrain/{seed}")

    def prepare(step: int) -> Batch:
        generator = np.random.default_rng([seed, step])
        scenes = draw_scenes(stream, np.arange(step * batch_size, (step + 1) * batch_size))
        images, coverage = render_with_coverage(scenes)
        captions, mentioned = draw_captions(scenes.labels, generator)
        token_ids = tokenize(captions + prompts[generator.integers(len(prompts))])
        differs = (scenes.labels[:, None] != scenes.labels[None]) & mentioned[None]
        also_true = ~differs.any(-1) & ~np.eye(batch_size, dtype=bool)
        return Batch(images, scenes.labels, patch_means(coverage, patch_size), token_ids, also_true)

    with ThreadPoolExecutor(1) as pool:
        ahead: deque[Future[Batch]] = deque()
        for step in range(first, steps + PREFETCH):
            if step < steps:
                ahead.append(pool.submit(prepare, step))
            if step >= first + PREFETCH:
                yield ahead.popleft().result()


def attribute_prompts(template: str) -> list[str]:
    """Prompts that name one attribute each: all values of the first attribute, then of the next."""
    return [template.format(phrase) for name in NAMES for phrase in attribute_phrases(name)]


def held_out(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [N, h, w, 3] that no seed trains on, and their labels int32 [N, 6]."""
    scenes = draw_scenes(stream_seed("pretrain/held out"), np.arange(count))
    return render(scenes), scenes.labels


def patch_means(values: np.ndarray, patch_size: int) -> np.ndarray:
    """[B, H, W] to the mean of each patch, [B, P], patches in reading order."""
    side = values.shape[1] // patch_size
    return values.reshape(-1, side, patch_size, side, patch_size).mean((2, 4)).reshape(len(values), -1)
