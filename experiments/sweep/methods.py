"""One table of all methods on several draws of classes, from a sweep of `experiments.reproduce`.

    python -m experiments.reproduce --methods=all --protocol=base2new --data=DRAWS --workdir=runs/methods -- FLAGS
    python -m experiments.sweep.methods runs/methods                      # runs/methods/side_by_side.md
    python -m experiments.sweep.methods runs/methods --page=experiments/evidence

Base-to-new: base, new by the method's own rule and by the class path alone, their HM, means over draws ± population
standard deviation; and the number of learned numbers and of training images seen. Few-shot: accuracy per number of
shots, each over the draws that all methods have with it. What the runs have in common beside their recipes is said
above the tables.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dear_jax.data.protocols import harmonic_mean
from dear_jax.files.json_files import read_object
from dear_jax.report.text_tables import to_markdown
from dear_jax.setup.methods import METHODS

ROW = "default"  # the one variant of these runs
Run = tuple[Mapping[str, Any], Mapping[str, Any]]  # results, config


def main(arguments: Sequence[str]) -> None:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--page", type=Path, help="a folder for a copy, methods.md")
    options = parser.parse_args(arguments)
    runs = read(options.workdir)
    if not runs:
        parser.exit(2, f"error: {options.workdir} has no finished run; expected the workdir of a sweep of reproduce.\n")
    text = "\n\n".join(tables(runs)) + "\n"
    print(text)
    for path in (options.workdir / "side_by_side.md", *([options.page / "methods.md"] if options.page else [])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"Written: {path}")


def read(folder: Path) -> list[Run]:
    """All finished runs of a sweep."""
    found = sorted(folder.glob("*/results.json"))
    return [(read_object(path), read_object(path.parent / "config.json")) for path in found]


def tables(runs: Sequence[Run]) -> list[str]:
    """The parts of the page."""
    shares = sorted({config["train"]["share"] for _, config in runs})
    seeds = sorted({len(config["seeds"]) for _, config in runs})
    parts = [
        "# Methods side by side on the embedded world",
        f"Each method by its published recipe, of whose epochs or steps a share of {', '.join(map(str, shares))} is "
        f"trained; {', '.join(map(str, seeds))} seeds a run, 16 shots where nothing else is said. Means ± population "
        "standard deviations over the draws of classes.",
    ]
    base2new = [run for run in runs if run[0]["protocol"] == "base2new"]
    if base2new:
        parts += [f"## Base-to-new, {_draws(base2new)}", base2new_table(base2new)]
    few_shot = [run for run in runs if run[0]["protocol"] == "few_shot"]
    kept, table = few_shot_table(few_shot)
    if kept:
        parts += [f"## Few-shot classification, {_draws(kept)}", table]
    return parts


def _draws(runs: Sequence[Run]) -> str:
    names = sorted({results["dataset"] for results, _ in runs})
    return f"{len(names)} draws ({', '.join(names)})" if len(names) > 1 else names[0]


def base2new_table(runs: Sequence[Run]) -> str:
    """A row per method, the highest HM first."""
    plain = np.array([[results["zero_shot"][column] for column in ("base", "new", "hm")] for results, _ in runs])
    rows = []
    for method, of_method in _by_method(runs).items():
        values = []
        for results, _ in of_method:
            row = results["variants"][ROW]
            base, new = row["mean"]["base"], row["mean"]["new"]
            class_path = row["new_classes"]["new"]["class_only"]["mean"]
            values.append([base, new, class_path, harmonic_mean(base, new), harmonic_mean(base, class_path)])
        found = np.array(values)
        results, config = of_method[0]
        sizes = (results["trainable_parameters"][ROW], images_seen(config, results))
        cells = [*map(_spread, found.T), *(f"{size:,}" for size in sizes), str(len(found))]
        rows.append((found[:, 3].mean(), [METHODS[method].TITLE, *cells]))
    head = ["", "Base", "New", "New, class path", "HM", "HM, class path", "learned numbers", "images seen", "draws"]
    zero_shot = ["zero-shot CLIP", *(_spread(plain[:, column]) for column in (0, 1, 1, 2, 2)), "", "", ""]
    return to_markdown(head, [zero_shot, *(cells for _, cells in sorted(rows, key=lambda row: -row[0]))])


def few_shot_table(runs: Sequence[Run]) -> tuple[list[Run], str]:
    """The runs that count, and a row per method of them.

    A number of shots counts on those draws on which all methods have finished with it.
    """
    methods = {results["method"] for results, _ in runs}
    finished: dict[tuple[int, str], set[str]] = defaultdict(set)
    for results, _ in runs:
        finished[results["shots"], results["dataset"]].add(results["method"])
    whole = {place for place, found in finished.items() if found == methods}
    kept = [run for run in runs if (run[0]["shots"], run[0]["dataset"]) in whole]
    draws = {shots: sum(number == shots for number, _ in whole) for shots in sorted({number for number, _ in whole})}
    rows = []
    for method, of_method in _by_method(kept).items():
        means = [
            [results["variants"][ROW]["mean"]["accuracy"] for results, _ in of_method if results["shots"] == shots]
            for shots in draws
        ]
        parameters = max(results["trainable_parameters"][ROW] for results, _ in of_method)
        rows.append((np.mean(means[-1]), [METHODS[method].TITLE, *map(_spread, means), f"{parameters:,}"]))
    names = {shots: f"{shots} shots" if shots > 1 else "1 shot" for shots in draws}
    if len({*draws.values()}) > 1:
        count = {shots: f"{number} draw{'s' if number > 1 else ''}" for shots, number in draws.items()}
        names = {shots: f"{name}, {count[shots]}" for shots, name in names.items()}
    plain = {
        shots: _spread([results["zero_shot"]["accuracy"] for results, _ in _by_draw(kept, shots).values()])
        for shots in draws
    }
    head = ["", *names.values(), "learned numbers, at most"]
    zero_shot = ["zero-shot CLIP", *plain.values(), ""]
    return kept, to_markdown(head, [zero_shot, *(cells for _, cells in sorted(rows, key=lambda row: -row[0]))])


def _by_draw(runs: Sequence[Run], shots: int) -> dict[str, Run]:
    """A run of each draw with this number of shots."""
    return {run[0]["dataset"]: run for run in runs if run[0]["shots"] == shots}


def images_seen(config: Mapping[str, Any], results: Mapping[str, Any]) -> int:
    """By one seed in training, augmented ones counted each time; of methods without steps, its training images."""
    train, images = config["train"], results["trained_on"]["classes"] * results["shots"]
    batch = min(train["batch_size"], images)
    if train["steps"]:
        return int(train["steps"]) * batch
    return int(train["epochs"]) * (images // batch) * batch or images


def _by_method(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run[0]["method"], []).append(run)
    return found


def _spread(values: Sequence[float] | np.ndarray) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values):.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
