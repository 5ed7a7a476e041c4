"""The data sets that a config can name: one table, one row each."""

import dataclasses
import difflib
from collections.abc import Callable

from dear_jax.data import world
from dear_jax.data.sources import ImageDataset
from dear_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DatasetRow:
    """What there is to know about a data set before any image is read.

    Attributes:
        template: its prompt, with one {} for the class name.
        load: (name, root) -> the data set; `root` is the folder of the images.
    """

    template: str
    load: Callable[[str, str], ImageDataset]


def _load_world(name: str, root: str) -> ImageDataset:
    del root  # rendered, not read
    return world.load(name)


DATASETS: dict[str, DatasetRow] = {
    **{name: DatasetRow(world.TEMPLATE, _load_world) for name in world.TASKS},
}


def load_dataset(name: str, root: str = "") -> ImageDataset:
    """The data set `name`, a row of `DATASETS`, with its images below the folder `root`."""
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, n=1, cutoff=0.0)
        raise UserError(
            f"data.dataset: no data set is called {name!r}; there are {', '.join(DATASETS)}. "
            f"The nearest name is {near[0]!r}."
        )
    row = DATASETS[name]
    return dataclasses.replace(row.load(name, root), template=row.template)
