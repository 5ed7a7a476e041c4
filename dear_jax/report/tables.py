"""Result dictionaries (results.json) to Markdown tables."""

from collections.abc import Mapping, Sequence
from typing import Any

from dear_jax.report import text_tables

TITLES = {"base": "Base", "new": "New", "hm": "HM", "accuracy": "Accuracy", "average": "Average"}
METRIC_TITLES = {
    "worst_group": "Worst-group accuracy: the lowest over the groups of test images that share class and background.",
    "group_mean": "The mean accuracy over these groups.",
}
MODES = {"learned": "learned", "class_only": "class path only", "equal": "all paths equal"}


def results_markdown(results: Mapping[str, Any]) -> str:
    """One run as a table: zero-shot CLIP, every seed, mean and population standard deviation; percent."""
    columns = list(results["zero_shot"])
    variants = results["variants"]
    rows = [["zero-shot CLIP", *_cells(results["zero_shot"], columns)]]
    for name, variant in variants.items():
        title = _variant_title(results, name)
        rows += [[f"{title}, seed {seed}", *_cells(row, columns)] for seed, row in variant["seeds"].items()]
        spread = [f"**{variant['mean'][c]:.2f}** ± {variant['std'][c]:.2f}" for c in columns]
        rows.append([f"{title}, mean ± std", *spread])
    parts = [
        f"{results['protocol']}, {results['dataset']}, {results['backbone']}, {results['shots']} shots; "
        "top-1 accuracy in percent.",
        text_tables.to_markdown(["", *(TITLES.get(column, column) for column in columns)], rows),
        *_new_classes_table(variants),
        *_metric_tables(results),
        results["data"]["remark"],
        results["data"].get("in_train_and_test", ""),
        _selection(results.get("selection")),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _selection(note: Mapping[str, Any] | None) -> str:
    """Where the settings were chosen, if anywhere."""
    if not note:
        return ""
    settings = ", ".join(f"{key} = {value}" for key, value in note["settings"].items()) or "those of the config"
    return (
        f"Settings chosen without test images, on {note['dataset']} ({note['protocol']}, {note['shots']} shots; "
        f"{note['from']}): {settings}."
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


def _new_classes_table(variants: Mapping[str, Any]) -> list[str]:
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
    return [
        "Classes not trained on, by fusion (mean ± std); the first is the one in the table above. MMRL and MMRL++ "
        "predict them by the class path only.",
        text_tables.to_markdown(["", *(MODES.get(mode, f"alpha_cls {mode}") for mode in modes)], rows),
    ]


def _metric_tables(results: Mapping[str, Any]) -> list[str]:
    """Further metrics than that of the table: a small table each."""
    parts = []
    for metric, zero_shot in results.get("zero_shot_metrics", {}).items():
        columns = list(zero_shot)
        rows = [["zero-shot CLIP", *_cells(zero_shot, columns)]]
        for name, variant in results["variants"].items():
            mean, std = variant["metrics"][metric]["mean"], variant["metrics"][metric]["std"]
            spread = [f"{mean[column]:.2f} ± {std[column]:.2f}" for column in columns]
            rows.append([f"{_variant_title(results, name)}, mean ± std", *spread])
        titles = ["", *(TITLES.get(column, column) for column in columns)]
        title = METRIC_TITLES.get(metric, f"By the metric {metric}.")
        parts += [title, text_tables.to_markdown(titles, rows)]
    return parts


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [f"{row[column]:.2f}" for column in columns]
