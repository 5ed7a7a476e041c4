"""Runs a study of `studies.py` and writes its tables: settings side by side on several draws of classes.

    python -m experiments.sweep.study masks                   # runs/studies/masks/tables.md
    python -m experiments.sweep.study fusion -- --config.train.share=0.5
    python -m experiments.sweep.study masks --tables          # of what is there, nothing is trained
    python -m experiments.sweep.study masks --page=experiments/evidence   # and masks.md there
    python -m experiments.sweep.study masks --select          # and what a selection chooses for each draw

starts `python -m dear_jax.main` once for every draw, all variants and seeds together, its output in DRAW/log.txt; what
follows `--` goes to each, and finished draws are not repeated. The tables say by which commit and command, and on which
device, their results were made (`made_by.json`).
"""

import argparse
import concurrent.futures
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from dear_jax.data.protocols import harmonic_mean
from dear_jax.evaluation.choice import choose
from dear_jax.files.json_files import read_object
from dear_jax.report.tables import METRIC_TITLES, MODES, TITLES
from dear_jax.report.text_tables import to_markdown
from dear_jax.setup import selection
from experiments.made_by import made_by, sentence
from experiments.sweep import dose_figure
from experiments.sweep.studies import STUDIES, TUNING, Study

TWIN, SELECTED = "twin", "selected"
MADE_BY, SELECTED_BY = "made_by.json", "selected_by.json"
COLUMNS = ("base", "new", "hm")
RULES = ("learned", "class_only")
MORE_RULES = ("0.0", "0.3", "0.5", "0.7", "0.9", "0.95")  # weights of the class path, fixed after training


def main(arguments: Sequence[str]) -> None:
    """Run what is missing, then write and print the tables."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    flags = list(arguments[place + 1 :])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--workdir", type=Path, default=Path("runs/studies"))
    parser.add_argument("--tables", action="store_true", help="of finished draws alone")
    parser.add_argument("--at_once", type=int, default=1, help="draws that are trained at a time, each in a process")
    parser.add_argument("--select", action="store_true", help="also choose for each draw, without a test image")
    parser.add_argument("--page", type=Path, help="a folder for a copy of the tables, called after the study")
    options = parser.parse_args(arguments[:place])
    study, folder = STUDIES[options.study], options.workdir / options.study
    if options.select and not study.choices:
        parser.exit(2, f"error: the study {options.study} has no choices for a selection.\n")
    if not options.tables:
        with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
            list(pool.map(lambda draw: run(study, draw, folder / draw, flags), study.draws))
        if options.select:
            for draw in study.draws:
                select(study, draw, folder / draw / SELECTED, flags)
            note_how(folder / SELECTED_BY, f"{options.study} --select", flags)
        else:
            note_how(folder / MADE_BY, options.study, flags)
    results = [read(folder / draw) for draw in study.draws if finished(study, draw, folder / draw)]
    if len(results) < 2:
        parser.exit(2, f"error: {folder} has {len(results)} finished draws; tables need two or more.\n")
    parts = [*head(study, results, folder), *tables(study, results)]
    if (folder / SELECTED_BY).exists():
        parts.append(f"{sentence(json.loads((folder / SELECTED_BY).read_text()))} the selections.")
    text = "\n\n".join(parts) + "\n"
    print(text)
    for place, name in ((folder, "tables"), *([(options.page, options.study)] if options.page else [])):
        place.mkdir(parents=True, exist_ok=True)
        drawn = f"![New and HM against the start]({name}.png)\n" if options.study == "dose" else ""
        if drawn:
            dose_figure.draw(study, results, place / name)
        (place / f"{name}.md").write_text(text + ("\n" + drawn if drawn else ""))
        print(f"Written: {place / name}.md")


def run(study: Study, draw: str, workdir: Path, flags: Sequence[str]) -> None:
    """One training run of all variants, and the evaluation on the draw's twin, unless they are finished."""
    if not (workdir / "results.json").exists():
        start([*study.flags(draw), f"--config.eval.rules={','.join(MORE_RULES)}", *flags], workdir)
    if not finished(study, draw, workdir):
        twin = [f"--config=configs/base2new.py:{study.twin(draw)}", "--config.job=evaluate", f"--config.run={workdir}"]
        start([*twin, *flags], workdir / TWIN)


def select(study: Study, draw: str, workdir: Path, flags: Sequence[str]) -> None:
    """The selection of a draw, unless it is finished."""
    if not (workdir / selection.NAME).exists():
        start([*study.selection_flags(draw), *flags], workdir)


def start(flags: Sequence[str], workdir: Path) -> None:
    """`dear_jax.main` in a process of its own, its output in log.txt of the workdir."""
    command = [sys.executable, "-m", "dear_jax.main", *flags, f"--workdir={workdir}"]
    workdir.mkdir(parents=True, exist_ok=True)
    print(workdir / "log.txt", flush=True)
    with (workdir / "log.txt").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)


def finished(study: Study, draw: str, workdir: Path) -> bool:
    """Whether all results of a draw are there."""
    folders = [workdir, *([workdir / TWIN] if study.twin(draw) else [])]
    return all((folder / "results.json").exists() for folder in folders)


def read(workdir: Path) -> dict:
    """The results of a draw, those on its twin, if it has one, and its selection under names of their own."""
    more = {TWIN: workdir / TWIN / "results.json", SELECTED: workdir / SELECTED / selection.NAME}
    found = {name: read_object(path) for name, path in more.items() if path.exists()}
    return {**read_object(workdir / "results.json"), **found}


def note_how(path: Path, name: str, flags: Sequence[str]) -> None:
    """Leave beside the results what made them: command, commit and device."""
    command = " ".join(["python -m experiments.sweep.study", name, *(["--", *flags] if flags else [])])
    path.write_text(json.dumps(made_by(command), indent=2) + "\n")


def head(study: Study, results: Sequence[dict], folder: Path) -> list[str]:
    """The question, and what the results were made by."""
    path = folder / MADE_BY
    how = json.loads(path.read_text()) if path.exists() else {}
    made = f"{sentence(how)} " if how else "Unfinished: "
    draws = ", ".join(one["dataset"] for one in results)
    return [
        f"# {study.question}",
        f"{made}{len(results)} draws of classes ({draws}), {len(study.seeds)} seeds each. Means ± population standard "
        "deviations over draws; differences are paired by draw, with their 95 % interval.",
    ]


def tables(study: Study, results: Sequence[dict]) -> list[str]:
    """All tables of a study, with a line before each."""
    parts = []
    for rule in RULES:
        parts += [f"New classes by the rule *{MODES[rule]}*.", accuracy_table(study, results, rule)]
        if study.twins:
            parts += [
                f"What the same adapters gain (+) or lose (-) against the twin of each draw (of {study.draws[0]}: "
                f"{study.twins[0]}), by that rule.",
                loss_table(study, results, rule),
            ]
    for metric, title in METRIC_TITLES.items():
        if all("zero_shot_metrics" in one and metric in one["zero_shot_metrics"] for one in results):
            parts += [f"{title} New classes by the method's own rule.", metric_table(study, results, metric)]
    parts += [
        "Paths by themselves, and fixed weights of the class path: the best of them for base and for new classes, "
        "known only afterwards.",
        paths_table(study, results),
    ]
    if all(SELECTED in one for one in results):
        parts += selection_part(study, results)
    if set(study.draws) <= set(TUNING):
        parts.append(choice_line(study, results))
    return parts


def accuracy_table(study: Study, results: Sequence[dict], rule: str) -> str:
    """A row per variant: base, new and HM, and their differences to the reference."""
    plain = [one["zero_shot"] for one in results]
    return comparison(study, plain, {name: draw_means(results, name, rule) for name in study.variants})


def loss_table(study: Study, results: Sequence[dict], rule: str) -> str:
    """The same of the differences to the twin of each draw."""
    twins = [one[TWIN] for one in results]
    plain = [
        {column: one["zero_shot"][column] - twin["zero_shot"][column] for column in COLUMNS}
        for one, twin in zip(results, twins, strict=True)
    ]
    of_variants = {name: draw_means(results, name, rule) - draw_means(twins, name, rule) for name in study.variants}
    return comparison(study, plain, of_variants)


def metric_table(study: Study, results: Sequence[dict], metric: str) -> str:
    """The same of a further metric, under the rule that a run predicts new classes by."""
    plain = [one["zero_shot_metrics"][metric] for one in results]
    of_variants = {
        name: np.array(
            [[one["variants"][name]["metrics"][metric]["mean"][column] for column in COLUMNS] for one in results]
        )
        for name in study.variants
    }
    return comparison(study, plain, of_variants)


def comparison(study: Study, plain: Sequence[Mapping[str, float]], of_variants: Mapping[str, np.ndarray]) -> str:
    """Zero-shot CLIP of each draw and `[draws, 3]` of each variant as a table, with differences to the reference."""
    titles = [TITLES[column] for column in COLUMNS]
    rows = [["zero-shot CLIP", *(spread([row[column] for row in plain]) for column in COLUMNS), "", "", ""]]
    reference = of_variants[study.reference]
    for name, values in of_variants.items():
        cells = [spread(values[:, column]) for column in range(len(COLUMNS))]
        differences = ["" if name == study.reference else interval(d) for d in (values - reference).T]
        rows.append([name, *cells, *differences])
    return to_markdown(["", *titles, *(f"{title} - {study.reference}" for title in titles)], rows)


def paths_table(study: Study, results: Sequence[dict]) -> str:
    """A row per variant: accuracy by the class path, by the others, by the learned weights, by the best fixed ones."""
    rows = []
    for name in study.variants:
        cells = []
        for group, of_set in (("trained_classes", "base"), ("new_classes", "new")):
            by_rule = {
                rule: np.array([one["variants"][name][group][of_set][rule]["mean"] for one in results])
                for rule in ("learned", "class_only", *MORE_RULES)
                if rule in results[0]["variants"][name][group][of_set]
            }
            fixed = {rule: values for rule, values in by_rule.items() if rule not in RULES} | {
                "1": by_rule["class_only"]
            }
            best = max(fixed, key=lambda rule: fixed[rule].mean())
            cells += [spread(by_rule["class_only"]), spread(fixed["0.0"]) if "0.0" in fixed else ""]
            cells += [spread(by_rule["learned"]), f"{spread(fixed[best])} at {best}"]
        rows.append([name, *cells])
    heads = [
        f"{title}, {what}"
        for title in ("Base", "New")
        for what in ("class path", "other paths", "learned", "best fixed weight")
    ]
    return to_markdown(["", *heads], rows)


def selection_part(study: Study, results: Sequence[dict]) -> list[str]:
    """What a selection has chosen for each draw, and what that has by test."""
    chosen = [one[SELECTED]["chosen"]["name"] for one in results]
    rows = [draw_means(results, name, RULES[0])[place] for place, name in enumerate(chosen)]
    best = [max(draw_means([one], name, RULES[0])[0, 2] for name in study.choices) for one in results]
    plain = [one["zero_shot"] for one in results]
    reference = draw_means(results, study.reference, RULES[0])
    return [
        f"Without a test image, by leaving classes out ({'; '.join(dict.fromkeys(study.choices))} to choose from; two "
        f"folds, three seeds), a selection takes {', '.join(chosen)} on the {len(chosen)} draws. By test, the best of "
        f"each draw, known only afterwards, has {np.mean(best):.2f} HM.",
        comparison(study, plain, {study.reference: reference, "as a selection chooses": np.stack(rows)}),
    ]


def choice_line(study: Study, results: Sequence[dict]) -> str:
    """What is chosen on these draws: see `dear_jax.evaluation.choice`."""
    candidates = [(name, rule) for rule in RULES for name in study.variants]
    candidates.sort(key=lambda pair: changed(study, pair[0]) + (pair[1] != RULES[0]))  # the simplest first
    chosen = choose(np.array([draw_means(results, name, rule)[:, 2] for name, rule in candidates]))
    labels = [f"{name}, {MODES[rule]}" for name, rule in candidates]
    tied = ", ".join(labels[index] for index in chosen.tied)
    return f"Best mean HM: {labels[chosen.best]}. Within one standard error: {tied}. Chosen: {labels[chosen.chosen]}."


def changed(study: Study, name: str) -> int:
    """In how many settings a variant differs from the reference."""
    own, reference = (set(study.variants[of].replace(" ", "").split(";")) for of in (name, study.reference))
    return len(own - reference)


def draw_means(results: Sequence[dict], name: str, rule: str) -> np.ndarray:
    """Base, new and their HM of a variant on each draw, means over its seeds, `[draws, 3]`."""
    rows = []
    for one in results:
        variant: dict[str, Any] = one["variants"][name]
        base, new = variant["mean"]["base"], variant["new_classes"]["new"][rule]["mean"]
        rows.append([base, new, harmonic_mean(base, new)])
    return np.array(rows)


def spread(values: Sequence[float] | np.ndarray) -> str:
    """Mean ± population standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values):.2f}"


def interval(differences: np.ndarray) -> str:
    """Mean difference and half the width of its 95 % interval."""
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{differences.mean():+.2f} ± {half:.2f}"


if __name__ == "__main__":
    main(sys.argv[1:])
