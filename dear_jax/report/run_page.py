"""The page of a run as one HTML file that opens from disk without a network: `report.html`.

In: the files of a workdir: config.json, results.json, and where they are there metrics.jsonl, examples.json and
ablation.json. Out: tables, curves, every class beside zero-shot CLIP, a confusion matrix, pictures, settings. What an
older run's files do not hold, the page says. Its form is in templates/run.html, its looks in run.css, its behaviour in
run.js.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from dear_jax.errors import UserError, count
from dear_jax.files import json_files
from dear_jax.report import pages, sprites, tables
from dear_jax.report.head_curves import HeadCurves, head_curves
from dear_jax.report.line_chart import LineChart, Point, line_chart
from dear_jax.report.predictions import ZERO_SHOT
from dear_jax.report.runs import read_results

PAGE, EXAMPLES, ABLATION = "report.html", "examples.json", "ablation.json"
PICTURES = sprites.SIDE**2  # thumbnails, of all galleries of all class sets: one sheet
THUMBNAIL = 96  # pixels, at most
CURVES = {  # columns of metrics.jsonl, in this order; others follow
    "loss": "Loss",
    "accuracy": "Accuracy on the training batches, 0 to 1",
    "class_weight": "Weight of the class path",
    "learning_rate": "Learning rate",
    "images_per_second": "Images of all seeds per second",
}
NO_CURVES = {"step", "epoch", "seconds"}
LINES = 28  # of a chart at most: as many as look different
PAIRS = 30  # of classes, named
CELLS = ("true", "predicted", "images", "zero_shot")  # columns of a confusion matrix's cells
LEVELS = (0.05, 0.15, 0.35, 0.65, 1.0)  # shares of a class's images, up to which a cell has this darkness
GALLERIES = {
    "errors": ("Most certain errors", "Wrong with the highest probability, the mean over the seeds."),
    "gained": ("Gained", "Zero-shot CLIP gets them wrong; first those that most seeds get right."),
    "lost": ("Lost", "Zero-shot CLIP gets them right; first those that most seeds get wrong."),
}


@dataclasses.dataclass(frozen=True)
class Files:
    """What a workdir holds."""

    config: Mapping[str, Any]
    results: Mapping[str, Any]
    rows: tuple[Mapping[str, Any], ...]  # of metrics.jsonl
    examples: Mapping[str, Any] | None  # None: there is no such file
    ablation: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class OfClass:
    """A row of the table of classes; percent."""

    name: str
    images: int
    zero_shot: float | None
    accuracy: float | None  # the mean over the seeds
    change: float | None


@dataclasses.dataclass(frozen=True)
class Pair:
    """A class that is taken for another."""

    true: str
    predicted: str
    images: float  # the mean over the seeds
    share: float  # of the true class's images
    zero_shot: int  # images of which zero-shot CLIP says the same


@dataclasses.dataclass(frozen=True)
class Matrix:
    """A confusion matrix of C classes as paths of an SVG, a path for each level of darkness."""

    names: Sequence[str]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    cells: Mapping[str, Sequence[int]]  # that are not empty; counts are summed over the seeds
    images: Sequence[int]  # of each class
    pairs: tuple[Pair, ...]  # the most confused ones


@dataclasses.dataclass(frozen=True)
class Opinion:
    """What somebody says of an image."""

    who: str
    label: str
    probability: float
    right: bool


@dataclasses.dataclass(frozen=True)
class Example:
    """An image with what everybody says."""

    image: str
    picture: int
    truth: str
    opinions: tuple[Opinion, ...]


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Some images."""

    title: str
    note: str
    examples: tuple[Example, ...]


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """All that is known of the classes of a set; empty parts are not."""

    anchor: str
    title: str
    classes: tuple[OfClass, ...]
    matrix: Matrix | None
    galleries: tuple[Gallery, ...]
    changes: str  # how many images were gained and lost


def read(folder: epath.Path) -> Files:
    """The files of a run.

    Raises:
        UserError: it is none, not finished, of a job without accuracies, or damaged.
    """
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} holds no config.json: it is no workdir of a run of dear_jax.")
    if not (folder / "results.json").exists():
        raise UserError(
            f"{folder} holds no results.json: the run is not finished, or its job measures no accuracies. The command "
            "that started it goes on with it; a page is of a training or evaluation run."
        )
    results = read_results(folder / "results.json")
    examples, ablation = folder / EXAMPLES, folder / ABLATION
    return Files(
        config=json_files.read_object(folder / "config.json"),
        results=results,
        rows=tuple(_rows(folder / "metrics.jsonl")),
        examples=json_files.read_object(examples) if examples.exists() else None,
        ablation=json_files.read_object(ablation) if ablation.exists() else None,
    )


def _rows(path: epath.Path) -> Iterator[dict[str, Any]]:
    """The rows of metrics.jsonl; torn ones are left out."""
    if not path.exists():
        return
    for line in path.read_bytes().decode(errors="replace").splitlines():
        try:
            row = json_files.parse(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def render(files: Files, settings: Sequence[Sequence[Any]] | None, command: str, made_by: str = "") -> str:
    """The page.

    Args:
        files: of the run.
        settings: key, value and default of those that differ from the defaults; None where these are not known.
        command: that makes such a run; empty where it is not known.
        made_by: a run whose page this is, where it stands elsewhere.
    """
    results = files.results
    variants = list(results["variants"])
    try:
        return pages.render(
            "run.html",
            heading=f"{tables.method_title(results)} on {results['dataset']}"
            if variants
            else f"Zero-shot CLIP on {results['dataset']}",
            results=results,
            files=files,
            variant=variants[0] if variants else "",
            facts=_facts(files),
            tables=tables.results_tables(results, whole=True),
            remarks=tables.remarks(results),
            charts=charts(files.rows, _seeds(results)),
            weights=_weights(results),
            ablations=_ablations(files.ablation, variants[:1]),
            class_sets=class_sets(files),
            pictures=files.examples["pictures"] if files.examples else [],
            settings=settings,
            command=command,
            made_by=made_by,
            levels=LEVELS,
            thumbnail=THUMBNAIL,
            most_pictures=PICTURES,
        )
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"The page of the run cannot be made: {EXAMPLES}, {ABLATION}, results.json or metrics.jsonl is not what a "
            f"run of dear_jax writes ({type(error).__name__}: {error}). Without {EXAMPLES} and {ABLATION} the page is "
            "made of the others."
        ) from error


def _facts(files: Files) -> dict[str, str]:
    results, data = files.results, files.results["data"]
    trained_on = results.get("trained_on")
    maps = [f"{one['path']} ({one['file_sha256'][:12]})" for one in results.get("role_maps", ())]
    facts = {
        "Protocol": results["protocol"],
        "Backbone": results["backbone"],
        "Shots": results["shots"] if trained_on else None,
        "Seeds": ", ".join(_seeds(results)) or None,
        "Trained on": f"{trained_on['dataset']}, {count(trained_on['classes'], 'class')}" if trained_on else None,
        "Adapter of": results.get("run"),
        "Role map": ", ".join(maps) or None,
        "Source": data.get("source"),
        "Comparable with published tables": {True: "yes", False: "no"}.get(data.get("comparable")),
        "Version": results.get("version"),
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _seeds(results: Mapping[str, Any]) -> list[str]:
    """The seeds of all variants."""
    return list(next(iter(results["variants"].values()))["seeds"]) if results["variants"] else []


def charts(rows: Sequence[Mapping[str, Any]], seeds: Sequence[str]) -> list[LineChart]:
    """A chart per column of metrics.jsonl: a line per variant and seed, or a single one."""
    columns: dict[str, dict[str, list[Point]]] = {}
    for row in rows:
        if "evaluation" in row or "fit" in row or not isinstance(row.get("step"), int):
            continue
        for column, values in row.items():
            if column in NO_CURVES:
                continue
            series = columns.setdefault(column, {})
            for name, value in _series(values, seeds):
                if isinstance(value, int | float):
                    series.setdefault(name, []).append((row["step"], float(value)))
    order = [*(column for column in CURVES if column in columns), *sorted(columns.keys() - CURVES.keys())]
    titles = {column: CURVES.get(column, column.replace("_", " ").capitalize()) for column in order}
    return [
        line_chart(titles[column], dict(list(columns[column].items())[:LINES])) for column in order if columns[column]
    ]


def _series(values: Any, seeds: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Names and values of a cell: a number, or a list over seeds for each variant."""
    if not isinstance(values, dict):
        yield "", values
        return
    for variant, of_seeds in values.items():
        before = f"{variant}, " if len(values) > 1 else ""
        for seed, value in zip(seeds, of_seeds if isinstance(of_seeds, list) else (), strict=False):
            yield f"{before}seed {seed}", value


def _ablations(ablation: Mapping[str, Any] | None, variants: Sequence[str]) -> dict[str, list[HeadCurves]]:
    """Title of a class set -> for each score the curves of the first variant, then those of zero-shot CLIP."""
    found = {}
    for name, of_set in ablation["class_sets"].items() if ablation else ():
        of_run = [one for variant in variants for one in head_curves(of_set["variants"][variant], "Run")]
        found[tables.TITLES.get(name, name)] = [*of_run, *head_curves(of_set["zero_shot"], "Zero-shot CLIP")]
    return found


def _weights(results: Mapping[str, Any]) -> dict[str, float]:
    """Path -> its mean weight, of the first variant."""
    variant: Mapping[str, Any] = next(iter(results["variants"].values()), {})
    return {path: float(of_path["mean"]) for path, of_path in variant.get("path_weights", {}).items()}


def class_sets(files: Files) -> list[ClassSet]:
    """What the run's files hold of each of its class sets, of the first variant."""
    results = files.results
    variant: Mapping[str, Any] = next(iter(results["variants"].values()), {})
    known = results.get("classes", {})
    examples = files.examples["class_sets"] if files.examples else {}
    found = []
    for number, (name, of_set) in enumerate(known.items()):
        adapted = variant["classes"][name]["mean"] if variant else [None] * len(of_set["names"])
        shown = examples.get(name)
        seeds = max(1, len(variant.get("seeds", ())))
        found.append(
            ClassSet(
                anchor=f"set{number}",
                title=tables.TITLES.get(name, name),
                classes=tuple(_classes(of_set, adapted)),
                matrix=matrix(of_set["names"], of_set["images"], shown["pairs"], seeds) if shown else None,
                galleries=tuple(_galleries(shown, of_set["names"])) if shown else (),
                changes=_changes(shown["changes"]) if shown and variant else "",
            )
        )
    return found


def _classes(of_set: Mapping[str, Any], adapted: Sequence[float | None]) -> Iterator[OfClass]:
    rows = zip(of_set["names"], of_set["images"], of_set["zero_shot"], adapted, strict=True)
    for name, images, zero_shot, accuracy in rows:
        change = None if accuracy is None or zero_shot is None else accuracy - zero_shot
        yield OfClass(name, images, zero_shot, accuracy, change)


def _changes(changes: Mapping[str, Sequence[int]]) -> str:
    """How many images the seeds have gained and lost."""
    means = {name: sum(counts) / len(counts) for name, counts in changes.items()}
    return f"{means['gained']:.1f} images gained and {means['lost']:.1f} lost, the mean over the seeds"


def matrix(
    names: Sequence[str], images: Sequence[int], cells: Mapping[str, Sequence[int]], seeds: int
) -> Matrix:
    """The confusion matrix: a row per true class, a column per predicted one.

    Args:
        names: of the classes.
        images: of each.
        cells: "true", "predicted", "images" (summed over the seeds) and "zero_shot" of all that are not empty.
        seeds: how many.
    """
    right, wrong = [""] * len(LEVELS), [""] * len(LEVELS)
    confused = []
    for true, predicted, total, plain in zip(*(cells[key] for key in CELLS), strict=True):
        share = total / seeds / images[true]
        if total:
            level = sum(share > most for most in LEVELS[:-1])
            (right if true == predicted else wrong)[level] += f"M{predicted} {true}h1v1h-1z"
        if total and true != predicted:
            confused.append(Pair(names[true], names[predicted], total / seeds, share, plain))
    confused.sort(key=lambda pair: (-pair.images, -pair.share))
    return Matrix(names, tuple(right), tuple(wrong), cells, images, tuple(confused[:PAIRS]))


def _galleries(shown: Mapping[str, Any], names: Sequence[str]) -> Iterator[Gallery]:
    for name, (title, note) in GALLERIES.items():
        if shown["galleries"].get(name):
            examples = tuple(_example(about, names) for about in shown["galleries"][name])
            yield Gallery(title, note, examples)


def _example(about: Mapping[str, Any], names: Sequence[str]) -> Example:
    said = {f"seed {seed}": opinion for seed, opinion in about["seeds"].items()}
    said |= {ZERO_SHOT: about["zero_shot"], **about["paths"]}
    opinions = tuple(
        Opinion(who, names[label], probability, label == about["truth"]) for who, (label, probability) in said.items()
    )
    return Example(about["image"], about["picture"], names[about["truth"]], opinions)
