"""Result dictionaries (results.json) to tables: as Markdown, and as the page of a run shows them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dear_jax.errors import count
from dear_jax.report import pages, text_tables

TITLES = {"base": "Base", "new": "New", "hm": "HM", "accuracy": "Accuracy", "average": "Average"}
METRIC_TITLES = {
    "worst_group": "Worst-group accuracy: the lowest over the groups of test images that share class and background.",
    "group_mean": "The mean accuracy over these groups.",
}
PAGE_METRICS = {  # that the page of a run shows, and no other table
    "macro_f1": "Macro-F1: the mean of the classes' F1 scores, so that every class counts alike.",
    "calibration_error": (
        "Expected calibration error: how far probability and accuracy are apart (15 bins); the less, the better."
    ),
}
MODES = {"learned": "learned", "class_only": "class path only", "equal": "all paths equal"}


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A table; `**` stand around what is bold."""

    caption: str
    head: tuple[str, ...]  # empty above the names of the rows
    rows: tuple[tuple[str, ...], ...]


def results_markdown(results: Mapping[str, Any]) -> str:
    """One run as a table: zero-shot CLIP, every seed, mean and population standard deviation; percent."""
    return "\n\n".join([*map(to_markdown, results_tables(results)), *remarks(results)]) + "\n"


def to_markdown(table: Numbers) -> str:
    """The caption and the table."""
    return "\n\n".join(filter(None, [table.caption, text_tables.to_markdown(table.head, table.rows)]))


def to_html(tables: Sequence[Numbers], remarks: Sequence[str] = ()) -> str:
    """Tables as a notebook shows them."""
    return pages.render("fragment.html", tables=tables, remarks=remarks)


def remarks(results: Mapping[str, Any]) -> list[str]:
    """What a reader of the tables should know."""
    data = results["data"]
    found = (data["remark"], data.get("in_train_and_test", ""), results.get("trial", ""), _selection_note(results))
    return [text for text in found if text]


def results_tables(results: Mapping[str, Any], whole: bool = False) -> list[Numbers]:
    """The table of accuracies, and what else there is to compare; with `whole` those of `PAGE_METRICS` as well."""
    columns = list(results["zero_shot"])
    rows = [["zero-shot CLIP", *_cells(results["zero_shot"], columns)]]
    for name, variant in results["variants"].items():
        title = _variant_title(results, name)
        rows += [[f"{title}, seed {seed}", *_cells(row, columns)] for seed, row in variant["seeds"].items()]
        spread = [f"**{variant['mean'][c]:.2f}** ± {variant['std'][c]:.2f}" for c in columns]
        rows.append([f"{title}, mean ± std", *spread])
    caption = (
        f"{results['protocol']}, {results['dataset']}, {results['backbone']}, {count(results['shots'], 'shot')}; "
        "top-1 accuracy in percent."
    )
    return [
        _numbers(caption, [TITLES.get(column, column) for column in columns], rows),
        *_new_classes_table(results["variants"]),
        *_path_weights_table(results),
        *_metric_tables(results, whole),
    ]


def _numbers(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Numbers:
    return Numbers(caption, ("", *columns), tuple(map(tuple, rows)))


def _selection_note(results: Mapping[str, Any]) -> str:
    """Where the settings were chosen, if anywhere."""
    note: Mapping[str, Any] | None = results.get("selection")
    if not note:
        return ""
    settings = ", ".join(f"{key} = {value}" for key, value in note["settings"].items()) or "those of the config"
    return (
        f"Settings chosen without test images, on {note['dataset']} ({note['protocol']}, "
        f"{count(note['shots'], 'shot')}; {note['from']}): {settings}."
    )


def _variant_title(results: Mapping[str, Any], name: str) -> str:
    """The method, and which of its variants where there are several."""
    method = method_title(results)
    return method if len(results["variants"]) == 1 else f"{method} {name}"


def method_title(results: Mapping[str, Any]) -> str:
    """What to call the method; older results do not say it."""
    return str(results.get("method_title", "DeAR"))


def new_classes(variant: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a variant's results: class set that was not trained on -> way to fuse the paths -> mean and std."""
    return variant["new_classes"] if "new_classes" in variant else variant["fusion"]  # as older results call it


def _new_classes_table(variants: Mapping[str, Any]) -> list[Numbers]:
    """The classes that were not trained on, under each way to fuse the class and attribute paths."""
    found = {name: new_classes(variant) for name, variant in variants.items() if new_classes(variant)}
    if not found:
        return []
    modes = list(next(iter(next(iter(found.values())).values())))
    rows = []
    for name, class_sets in found.items():
        for class_set, row in class_sets.items():
            title = TITLES.get(class_set, class_set)
            cells = [f"{row[mode]['mean']:.2f} ± {row[mode]['std']:.2f}" for mode in modes]
            rows.append([title if len(found) == 1 else f"{name}, {title}", *cells])
    caption = (
        "Classes not trained on, by fusion (mean ± std); the first is the one in the table above. MMRL and MMRL++ "
        "predict them by the class path only."
    )
    return [_numbers(caption, [MODES.get(mode, f"alpha_cls {mode}") for mode in modes], rows)]


def _path_weights_table(results: Mapping[str, Any]) -> list[Numbers]:
    """How much of the prediction each path is, of variants with several paths; older results do not say it."""
    variants = results["variants"].items()
    found = {name: variant["path_weights"] for name, variant in variants if "path_weights" in variant}
    if not found:
        return []
    paths = list(dict.fromkeys(path for of_variant in found.values() for path in of_variant))
    rows = []
    for name, weights in found.items():
        values = [weights.get(path) for path in paths]
        cells = [f"{value['mean']:.3f} ± {value['std']:.3f}" if value else "" for value in values]
        rows.append(["weight" if len(found) == 1 else name, *cells])
    return [_numbers("Weight of each path in the prediction of the classes trained on (mean ± std).", paths, rows)]


def _metric_tables(results: Mapping[str, Any], whole: bool) -> list[Numbers]:
    """Further metrics than that of the table: a small table each."""
    found = []
    for metric, zero_shot in results.get("zero_shot_metrics", {}).items():
        if metric in PAGE_METRICS and not whole:
            continue
        columns = list(zero_shot)
        rows = [["zero-shot CLIP", *_cells(zero_shot, columns)]]
        for name, variant in results["variants"].items():
            mean, std = variant["metrics"][metric]["mean"], variant["metrics"][metric]["std"]
            spread = [f"{mean[column]:.2f} ± {std[column]:.2f}" for column in columns]
            rows.append([f"{_variant_title(results, name)}, mean ± std", *spread])
        caption = (METRIC_TITLES | PAGE_METRICS).get(metric, f"By the metric {metric}.")
        found.append(_numbers(caption, [TITLES.get(column, column) for column in columns], rows))
    return found


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [f"{row[column]:.2f}" for column in columns]
