"""Finished runs, read from their workdirs.

In: paths of workdirs, or of folders that hold some. Out: a `Run` for each that is finished and whole, and a sentence
for each that is not; one bad folder never hides the others.
"""

import contextlib
import dataclasses
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath
from flax.traverse_util import flatten_dict

from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserError
from dear_jax.files import hub, json_files
from dear_jax.report.step_times import step_seconds
from dear_jax.report.tables import method_title

Scores = dict[str, float]  # column -> accuracy in percent


@dataclasses.dataclass(frozen=True)
class Run:
    """What a finished run measured, and how.

    Attributes:
        folder: its workdir.
        protocol: a key of `PROTOCOLS`.
        dataset: what it was measured on; of a transfer, the data set before the targets.
        method: what to call the method that was trained.
        backbone: as the config named it.
        shots: training images per class.
        config: every key of its config, by dotted name, with JSON's values.
        trained_on: data set and number of classes of the adapters; ("", 0) where there are none.
        training: the config of the run that trained them: its own, or that of the run that it evaluates; empty where
            that run's folder is no longer there.
        variants: variant -> seed -> scores; empty for zero-shot CLIP alone.
        zero_shot: scores of zero-shot CLIP.
        data: where images, splits and class names came from, and whether results compare with published ones.
        parameters: variant -> trainable parameters of one seed; empty where the results do not say it, as older ones.
        step_seconds: of one seed of one variant, a step's time shared out to them; None where no row of the training's
            metrics.jsonl has times.
    """

    folder: Path
    protocol: str
    dataset: str
    method: str
    backbone: str
    shots: int
    config: dict[str, Any]
    trained_on: tuple[str, int]
    training: dict[str, Any]
    variants: dict[str, dict[str, Scores]]
    zero_shot: Scores
    data: Mapping[str, Any]
    parameters: dict[str, int]
    step_seconds: float | None


def find_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """The finished runs in some folders, in order, each once; and a sentence for everything that is none."""
    runs: dict[Path, Run] = {}
    problems: dict[str, None] = {}
    for path in paths:
        folders = list(_workdirs(path))
        if not folders:
            there = "there is no run in it" if path.is_dir() else "there is no such folder"
            problems[f"{path}: {there}."] = None
        for folder in folders:
            if folder.resolve() not in runs:
                try:
                    runs[folder.resolve()] = read_run(folder)
                except UserError as error:
                    problems[str(error)] = None
    return list(runs.values()), list(problems)


def _workdirs(path: Path) -> Iterator[Path]:
    """The folders below `path`, itself included, that a run has written to; none inside another."""
    for parent, folders, files in os.walk(path):
        folders.sort()
        if {"config.json", "results.json"} & set(files):
            folders.clear()
            yield Path(parent)


def read_run(folder: Path) -> Run:
    """The run in a workdir.

    Raises:
        UserError: it is unfinished, damaged, of a job without accuracies, or none of this project.
    """
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: results.json without a config.json; this is no workdir of dear_jax.")
    config = flatten_dict(json_files.read_object(folder / "config.json"), sep=".")
    job = config.get("job")
    if job not in ("train", "evaluate"):
        raise UserError(f"{folder}: a run of job {job!r}, which measures no protocol's accuracies.")
    if not (folder / "results.json").exists():
        raise UserError(f"{folder}: not finished, there is no results.json yet; the same command goes on with it.")
    results = read_results(folder / "results.json")
    with understood(folder / "results.json"):
        return _to_run(folder, config, results)


def read_results(path: epath.PathLike) -> dict[str, Any]:
    """The content of a results.json, its accuracies checked.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    results = json_files.read_object(path)
    with understood(path):
        read_scores(results)
    return results


@contextlib.contextmanager
def understood(path: epath.PathLike) -> Iterator[None]:
    """Answer what fails where results are not as they should be."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: not the results of a run of dear_jax, or damaged: {what}.") from error


def _training_folder(folder: Path, config: Mapping[str, Any]) -> Path:
    """The workdir of the training: this one, or that of `config.run`, a workdir, a file in one or a run on the hub."""
    if not config.get("run"):
        return folder
    if hub.is_address(config["run"]):
        return Path(hub.cached_run(config["run"]) or config["run"])
    place = Path(config["run"]).expanduser()
    return place if place.is_dir() else place.parent


def _training_config(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """The config that adapters were trained with."""
    if not config.get("run"):
        return config
    file = _training_folder(folder, config) / "config.json"
    return flatten_dict(json_files.read_object(file), sep=".") if file.exists() else {}


def _step_seconds(folder: Path, config: Mapping[str, Any], runs: int) -> float | None:
    """The time of a training step, shared out to its runs: seeds of variants."""
    seconds = step_seconds(_training_folder(folder, config) / "metrics.jsonl") if runs else None
    return None if seconds is None else seconds / runs


def _to_run(folder: Path, config: dict[str, Any], results: Mapping[str, Any]) -> Run:
    protocol, variants, zero_shot = read_scores(results)
    trained_on: Mapping[str, Any] = results["trained_on"] if variants else {"dataset": "", "classes": 0}
    data = results["data"]
    for notes in (data, *data.get("targets", {}).values()):
        if not isinstance(notes["comparable"], bool) or not isinstance(notes["remark"], str):
            raise ValueError("data: expected `comparable` true or false and a `remark`")
    counts: Mapping[str, Any] = results.get("trainable_parameters", {})  # older results do not say it
    parameters = {name: int(counts[name]) for name in variants} if counts else {}
    return Run(
        folder=folder,
        protocol=protocol,
        dataset=str(results["dataset"]),
        method=method_title(results),
        backbone=str(results["backbone"]),
        shots=int(results["shots"]),
        config=config,
        trained_on=(str(trained_on["dataset"]), int(trained_on["classes"])),
        training=_training_config(folder, config),
        variants=variants,
        zero_shot=zero_shot,
        data=data,
        parameters=parameters,
        step_seconds=_step_seconds(folder, config, sum(len(seeds) for seeds in variants.values())),
    )


def read_scores(results: Mapping[str, Any]) -> tuple[str, dict[str, dict[str, Scores]], Scores]:
    """Protocol, variant -> seed -> accuracies, and those of zero-shot CLIP, checked.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not the content of a results.json.
    """
    protocol = results["protocol"]
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is none of {', '.join(PROTOCOLS)}")
    columns = tuple(results["zero_shot"])
    absent = [column for column in PROTOCOLS[protocol].columns if column not in columns]
    if absent:
        raise ValueError(f"zero_shot has no {', '.join(absent)}")
    variants = {
        name: {seed: _scores(row, columns, f"variant {name}, seed {seed}") for seed, row in variant["seeds"].items()}
        for name, variant in results["variants"].items()
    }
    return protocol, variants, _scores(results["zero_shot"], columns, "zero_shot")


def _scores(row: Mapping[str, Any], columns: Sequence[str], name: str) -> Scores:
    """The accuracies of `columns`, checked."""
    scores = {column: row[column] for column in columns}
    for column, value in scores.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{name}: {column} is {value!r}, expected a number of percent")
        if not 0 <= value <= 100:
            raise ValueError(f"{name}: {column} is {value}, expected 0 to 100 percent")
    return scores
