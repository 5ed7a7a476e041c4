"""The results of a run, as Python has them: the content of results.json, and its tables for a screen or a notebook."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

from dear_jax.errors import UserError
from dear_jax.evaluation.classifier import Classifier
from dear_jax.evaluation.summary import find_finished
from dear_jax.files import storage
from dear_jax.report import tables
from dear_jax.report.frames import to_frame

if TYPE_CHECKING:
    import pandas

ZERO_SHOT = "zero-shot CLIP"


class Results(Mapping[str, Any]):
    """What a training or an evaluation run has found; by its keys what results.json has."""

    def __init__(self, workdir: epath.PathLike) -> None:
        """Of a finished run.

        Raises:
            UserError: the folder holds none, or a damaged one.
        """
        self.workdir = storage.to_path(workdir)
        found = find_finished(self.workdir, trains=False)
        if found is None:
            raise UserError(f"{self.workdir} holds no results.json. A workdir has it once its run is finished.")
        self._values: Mapping[str, Any] = found

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return tables.results_markdown(self._values)

    def _repr_html_(self) -> str:
        return tables.to_html(tables.results_tables(self._values), tables.remarks(self._values))

    def rows(self) -> list[dict[str, Any]]:
        """A row of accuracies in percent, as the table has them, for zero-shot CLIP and every variant and seed."""
        rows = [{"variant": ZERO_SHOT, "seed": None, **self["zero_shot"]}]
        for variant, found in self["variants"].items():
            rows += [{"variant": variant, "seed": int(seed), **row} for seed, row in found["seeds"].items()]
        return rows

    def to_pandas(self) -> "pandas.DataFrame":
        """The rows as a table of pandas.

        Raises:
            UserError: pandas is not installed.
        """
        return to_frame(self.rows())

    def classifier(self, classes: Any = None, **options: Any) -> Classifier:
        """What the run has learned, ready to classify images: `Classifier.load` of its workdir."""
        return Classifier.load(self.workdir, classes, **options)
