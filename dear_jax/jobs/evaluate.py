"""Job: trained adapters, and zero-shot CLIP, on the class sets of a config. Training ends with the same evaluation.

    python -m dear_jax.main --config=configs/base2new.py --config.job=evaluate                      # zero-shot CLIP
    python -m dear_jax.main --config=configs/few_shot.py:DATASET --config.job=evaluate --config.run=WORKDIR

config, adapter file -> class sets -> accuracies -> results.json and results.md. Nothing is trained.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from dear_jax import __version__
from dear_jax.clip.checkpoints.weights import Backbone, cast
from dear_jax.clip.layers import Params
from dear_jax.evaluation import metrics
from dear_jax.evaluation.accuracy import Accuracy, Evaluator
from dear_jax.files.workdir import Workdir
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.dear import fusion
from dear_jax.parallel import processes, sharding
from dear_jax.report import tables
from dear_jax.setup import data as setup_data
from dear_jax.setup import programs as setup
from dear_jax.setup import runs as setup_runs
from dear_jax.setup.data import ClassSet

AVERAGE = "average"  # column: of the targets of a transfer, without the data set trained on


def run(config: ConfigDict, workdir: epath.Path) -> None:
    """Evaluate the adapters of `config.run`, if one is given, and plain CLIP; write and print the results.

    Raises:
        UserError: a bad config value or input file; a run that is not finished or of another backbone.
    """
    setup.check(config)
    with processes.open_workdir(config, workdir) as (files, config_sha256):
        if report_finished(files):
            return
        with processes.together():
            trained, backbone = setup_runs.load(config)
            setup_runs.inherit_splits(config, files)
            classes, data = setup_data.load_classes(config, backbone, files)
        accuracies = measure(config, backbone, classes, trained)
        report(summarize(config, trained, accuracies, config_sha256, data), files)


def measure(
    config: ConfigDict, backbone: Backbone, classes: Mapping[str, ClassSet], trained: Trained | None
) -> dict[str, Accuracy]:
    """Accuracies on every class set. Class sets with a class that was not trained on are fused in every way."""
    model = setup.make_model(config, backbone)
    adapters = trained.adapters(backbone, model.dtype) if trained else ()
    mesh = sharding.data_mesh()
    params: Params = sharding.place_backbone(cast(backbone.params, model.dtype), mesh, config.compute.shard_backbone)
    modes = fusion.from_first(fusion.parse_mode(config.fusion.new_classes))
    evaluator = Evaluator(model, params, adapters, mesh, config.eval.batch_size, modes, config.data.workers)
    # Counted in every way also where one will do, so that all class sets take the same compiled program.
    accuracies = {name: evaluator(class_set) for name, class_set in classes.items()}
    return {
        name: accuracy if trained and trained.is_new(classes[name].class_names) else accuracy.under("learned")
        for name, accuracy in accuracies.items()
    }


def summarize(
    config: ConfigDict,
    trained: Trained | None,
    accuracies: Mapping[str, Accuracy],
    config_sha256: str,
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of results.json: percent per class set and what follows from them, and the data's notes."""
    results: dict[str, Any] = {
        "protocol": config.protocol,
        "dataset": data["name"],
        "backbone": trained.backbone if trained else config.backbone,
        "shots": trained.shots if trained else config.data.shots,
        "fusion_of_new_classes": config.fusion.new_classes,
        "variants": {},
        "zero_shot": _complete(config, {name: accuracy.zero_shot for name, accuracy in accuracies.items()}),
        "data": dict(data),
        "config_sha256": config_sha256,
        "version": __version__,
    }
    if trained:
        results["trained_on"] = {"dataset": trained.dataset, "classes": len(trained.class_names)}
        for v, name in enumerate(trained.names):
            results["variants"][name] = _summarize_variant(config, trained, accuracies, v)
    return results


def _summarize_variant(
    config: ConfigDict, trained: Trained, accuracies: Mapping[str, Accuracy], v: int
) -> dict[str, Any]:
    """Rows per seed, their mean and spread; and, per class set with new classes, the mean and spread of each fusion."""
    rows = [
        _complete(config, {name: float(accuracy.adapted[0, s, v]) for name, accuracy in accuracies.items()})
        for s in range(len(trained.seeds))
    ]
    mean, std = metrics.summarize(rows)
    fusions = {
        name: {
            str(mode): {"mean": float(values.mean()), "std": float(values.std())}
            for mode, values in zip(accuracy.modes, accuracy.adapted[:, :, v], strict=True)
        }
        for name, accuracy in accuracies.items()
        if len(accuracy.modes) > 1
    }
    seeds = dict(zip(map(str, trained.seeds), rows, strict=True))
    return {"seeds": seeds, "mean": mean, "std": std, "fusion": fusions}


def _complete(config: ConfigDict, row: dict[str, float]) -> dict[str, float]:
    """Add the column that a protocol's tables end with."""
    if config.protocol == "base2new":
        return row | {"hm": metrics.harmonic_mean(row["base"], row["new"])}
    targets = list(row.values())[1:]
    return row | ({AVERAGE: sum(targets) / len(targets)} if targets else {})


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
