"""Images in batches for all processes of a job, with how far they are on the screen."""

import itertools
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from dear_jax.data import pipeline
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.pipeline import Batch
from dear_jax.files import progress_bar
from dear_jax.parallel import sharding


def batches(
    split: ImageSplit, most: int, image_size: int, mesh: Mesh, *, what: str, workers: int = 0, skip_bad: bool = False
) -> Iterator[Batch]:
    """Every image once, as `pipeline.eval_batches` gives them, those of this process's devices read.

    Args:
        split: the images.
        most: in a batch; fewer where there are fewer images (`pipeline.fitting`), filled up for the devices.
        image_size: pixels, of the model's input.
        mesh: over whose `data` axis a batch is spread.
        what: is done, for the screen of the first process, if it takes long.
        workers: processes that prepare batches; 0: threads of this process.
        skip_bad: whether an image that cannot be read is black and not valid, or an error.
    """
    (size,) = sharding.filled((pipeline.fitting(len(split), most),), mesh, sharding.DATA)
    own = sharding.own_entries((size,), mesh, sharding.DATA)
    quiet = jax.process_index() > 0
    found = progress_bar.bar(
        pipeline.eval_batches(split, size, image_size, workers, skip_bad, own=own),
        total=-(-len(split) // size),
        desc=what,
        unit="batch",
        delay=progress_bar.DELAY,
        disable=quiet,
    )
    each = iter(found)
    with progress_bar.waiting(f"{what}: compiling, and the first of {found.total}", quiet):
        yield from itertools.islice(each, 1)  # until the next one is asked for
    yield from each
