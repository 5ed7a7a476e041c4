"""Result dictionaries (results.json) to Markdown tables."""

from collections.abc import Mapping, Sequence
from typing import Any

TITLES = {"base": "Base", "new": "New", "hm": "HM", "accuracy": "Accuracy", "average": "Average"}
MODES = {"learned": "learned", "class_only": "class path only", "equal": "all paths equal"}


def results_markdown(results: Mapping[str, Any]) -> str:
    """One run as a table: zero-shot CLIP, every seed, mean and population standard deviation; percent."""
    columns = list(results["zero_shot"])
    lines = [
        f"{results['protocol']}, {results['dataset']}, {results['backbone']}, {results['shots']} shots; "
        "top-1 accuracy in percent.",
        "",
        _row(["", *(TITLES.get(column, column) for column in columns)]),
        _row(["---", *("---:" for _ in columns)]),
        _row(["zero-shot CLIP", *_cells(results["zero_shot"], columns)]),
    ]
    for name, variant in results["variants"].items():
        title = "DeAR" if len(results["variants"]) == 1 else f"DeAR {name}"
        for seed, row in variant["seeds"].items():
            lines.append(_row([f"{title}, seed {seed}", *_cells(row, columns)]))
        spread = [f"**{variant['mean'][c]:.2f}** ± {variant['std'][c]:.2f}" for c in columns]
        lines.append(_row([f"{title}, mean ± std", *spread]))
    lines += _fusion_lines(results["variants"])
    remark = results["data"]["remark"]
    return "\n".join([*lines, *(["", remark] if remark else [])]) + "\n"


def _fusion_lines(variants: Mapping[str, Any]) -> list[str]:
    """A table of the classes that were not trained on, under each way to fuse the class and attribute paths."""
    fusions = {name: variant["fusion"] for name, variant in variants.items() if variant["fusion"]}
    if not fusions:
        return []
    modes = list(next(iter(next(iter(fusions.values())).values())))
    lines = ["", "Classes not trained on, by fusion (mean ± std); the first is the one in the table above.", ""]
    lines += [
        _row(["", *(MODES.get(mode, f"alpha_cls {mode}") for mode in modes)]),
        _row(["---", *("---:" for _ in modes)]),
    ]
    for name, columns in fusions.items():
        for column, row in columns.items():
            title = TITLES.get(column, column) if len(fusions) == 1 else f"{name}, {TITLES.get(column, column)}"
            lines.append(_row([title, *(f"{row[mode]['mean']:.2f} ± {row[mode]['std']:.2f}" for mode in modes)]))
    return lines


def _cells(row: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    return [f"{row[column]:.2f}" for column in columns]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
