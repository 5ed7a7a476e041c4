"""Job: zero-shot CLIP on the class sets of a config. And the evaluation and report that training ends with."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from dear_jax import __version__, metrics, setup, setup_data, sharding, step
from dear_jax.adapt.model import Model, Settings
from dear_jax.adapt.tokens import Adapter
from dear_jax.clip.layers import Params
from dear_jax.clip.weights import cast
from dear_jax.data import pipeline
from dear_jax.report import tables
from dear_jax.setup_data import ClassSet
from dear_jax.workdir import Workdir


def run(config: ConfigDict, workdir: Path) -> None:
    """Evaluate plain CLIP with the data set's prompts; write and print the results.

    Raises:
        UserError: a bad config value or input file.
    """
    setup.check(config)
    with Workdir(workdir) as files:
        config_sha256 = files.check_config(config)
        if report_finished(files):
            return
        backbone, model = setup.load_model(config)
        task = setup_data.load_task(config, backbone, files)
        mesh = sharding.make_mesh(1, config.eval.batch_size)
        params = sharding.place(cast(backbone.params, model.dtype), mesh, sharding.REPLICATED)
        evaluator = Evaluator(model, params, mesh, config.eval.batch_size, config.data.workers)
        accuracies = {name: evaluator(None, None, classes) for name, classes in task.classes.items()}
        report(summarize(config, (), accuracies, config_sha256, task.data), files)


class Accuracy(NamedTuple):
    """Top-1 accuracies in percent, micro-averaged over all test images of a class set."""

    adapted: np.ndarray  # [S, V], or empty
    zero_shot: float


class Evaluator:
    """The compiled evaluation. Each image goes through the frozen prefix once, whatever the number of runs."""

    def __init__(self, model: Model, params: Params, mesh: Mesh, batch_size: int, workers: int = 0):
        self.params, self.mesh = params, mesh
        self.batch_size, self.workers, self.image_size = (
            batch_size,
            workers,
            model.config.image_size,
        )
        self._prompts = jax.jit(model.encode_prompts)
        self._classes = jax.jit(step.over_runs(model.text_features, (0, None, None, None), (0, None, None, 0)))
        self._count = jax.jit(functools.partial(_count_batch, model))

    def __call__(self, adapter: Adapter | None, settings: Settings | None, classes: ClassSet) -> Accuracy:
        """Evaluate adapters `[S, V, ...]` under settings `[V, ...]`, or none, and zero-shot CLIP.

        Every test image counts exactly once.
        """
        prompts = self._prompts(self.params, classes.token_ids)
        adapted = None
        if adapter is not None and settings is not None:
            adapted = (
                adapter,
                settings,
                self._classes(adapter, self.params, prompts, settings.beta),
            )
        spec = sharding.batch_spec(self.mesh, self.batch_size)
        correct, correct_zero_shot = 0, 0
        for batch in pipeline.eval_batches(classes.test, self.batch_size, self.image_size, self.workers):
            batch = sharding.place(batch, self.mesh, spec)
            counts = self._count(self.params, prompts.features, batch, adapted)
            # Sums stay on the device, so that the host can prepare the next batch meanwhile.
            correct, correct_zero_shot = correct + counts[0], correct_zero_shot + counts[1]
        total = len(classes.test)
        return Accuracy(100.0 * np.asarray(correct) / total, 100.0 * float(correct_zero_shot) / total)


def _count_batch(
    model: Model,
    params: Params,
    plain_classes: Float[Array, "C d"],
    batch: dict[str, Array],
    adapted: tuple[Adapter, Settings, Float[Array, "S V C d"]] | None,
) -> tuple[Int[Array, "S V"], Int[Array, ""]]:
    """Correct predictions of every run and of zero-shot CLIP; the prefix serves them all."""
    prefix = model.image_prefix(params, batch["image"])
    labels, valid = batch["label"], batch["valid"]
    zero_shot = step.count_correct_zero_shot(model, params, plain_classes, prefix, labels, valid)
    if adapted is None:
        return jnp.zeros((0, 0), jnp.int32), zero_shot
    adapter, settings, adapted_classes = adapted
    count = step.over_runs(
        functools.partial(step.count_correct, model),
        seeds=(0, None, 0, None, None, None, None),
        variants=(0, None, 0, None, None, None, 0),
    )
    return count(adapter, params, adapted_classes, prefix, labels, valid, settings), zero_shot


def summarize(
    config: ConfigDict,
    variants: Sequence[str],
    accuracies: Mapping[str, Accuracy],
    config_sha256: str,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of results.json: percent per class set, the harmonic mean of base and new, and the data's notes."""
    results: dict[str, Any] = {
        "protocol": config.protocol,
        "dataset": data["name"],
        "backbone": config.backbone,
        "shots": config.data.shots,
        "variants": {},
        "zero_shot": _with_harmonic_mean({name: a.zero_shot for name, a in accuracies.items()}),
        "data": dict(data),
        "config_sha256": config_sha256,
        "version": __version__,
    }
    for v, variant in enumerate(variants):
        rows = [
            _with_harmonic_mean({name: float(a.adapted[s, v]) for name, a in accuracies.items()})
            for s in range(len(config.seeds))
        ]
        mean, std = metrics.summarize(rows)
        seeds = dict(zip(map(str, config.seeds), rows, strict=True))
        results["variants"][variant] = {"seeds": seeds, "mean": mean, "std": std}
    return results


def _with_harmonic_mean(row: dict[str, float]) -> dict[str, float]:
    return row | {"hm": metrics.harmonic_mean(row["base"], row["new"])}


def report(results: Mapping[str, Any], files: Workdir) -> None:
    """Write results.md and results.json, the last file of a run, and print the table."""
    table = tables.results_markdown(results)
    files.write_text("results.md", table)
    files.write_json("results.json", results)
    print(f"\n{table}\nAll files of this run are in {files.path}.", flush=True)


def report_finished(files: Workdir) -> bool:
    """Whether the run was finished before; then its table is printed again."""
    if files.finished:
        print(f"\n{(files.path / 'results.md').read_text()}\nThis run was finished before, in {files.path}.")
    return files.finished
