"""Result dictionaries of retrieval (retrieval.json) to Markdown tables."""

from collections.abc import Mapping
from typing import Any

TITLES = {"precision": "Precision@{top}", "mean_average_precision": "mAP"}


def markdown(results: Mapping[str, Any]) -> str:
    """Percent, mean and population standard deviation over the seeds: a row per feature, a column per label."""
    lines = [
        f"Retrieval by cosine: {results['queries']} queries, {results['gallery']} gallery images of "
        f"{results['data']['name']}; adapter of {results['trained_on']}, variant {results['variant']}, "
        f"{len(results['seeds'])} seeds, backbone {results['backbone']}.",
    ]
    kinds = list(results["chance"])
    if not kinds:
        return "\n".join([*lines, "", "Nothing is known of the images, so that nothing is measured."]) + "\n"
    for measure, title in TITLES.items():
        head = title.format(top=results["top"])
        lines += ["", _row([f"{head}, ranked by", *kinds]), _row(["---", *("---:" for _ in kinds)])]
        lines.append(_row(["chance", *(_cell(results["chance"][kind][measure]) for kind in kinds)]))
        for feature, scores in results["features"].items():
            lines.append(_row([feature, *(_cell(scores[kind][measure]) for kind in kinds)]))
    unmatched = {kind: results["queries"] - count for kind, count in results["queries_with_a_match"].items()}
    lines += ["", "Percent. A gallery image is relevant if it has the query's label, by which a column is called."]
    lines += [
        f"{count} queries without a relevant image are left out of {kind}."
        for kind, count in unmatched.items()
        if count
    ]
    return "\n".join(lines) + "\n"


def _cell(summary: Mapping[str, Any]) -> str:
    if summary["mean"] is None or summary["mean"] != summary["mean"]:
        return "none"
    spread = f" ± {summary['std']:.1f}" if len(summary["seeds"]) > 1 else ""
    return f"{summary['mean']:.1f}{spread}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
