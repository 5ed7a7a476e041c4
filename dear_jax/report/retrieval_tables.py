"""Result dictionaries of retrieval (retrieval.json) to Markdown tables."""

from collections.abc import Mapping
from typing import Any

from dear_jax.errors import count
from dear_jax.report import text_tables

TITLES = {"precision": "Precision@{top}", "mean_average_precision": "mAP"}


def markdown(results: Mapping[str, Any]) -> str:
    """Percent, mean and population standard deviation over the seeds: a row per feature, a column per label."""
    parts = [
        f"Retrieval by cosine: {count(results['queries'], 'query')}, {count(results['gallery'], 'gallery image')} of "
        f"{results['data']['name']}; adapter of {results['trained_on']}, variant {results['variant']}, "
        f"{count(len(results['seeds']), 'seed')}, backbone {results['backbone']}.",
    ]
    kinds = list(results["chance"])
    if not kinds:
        return "\n\n".join([*parts, "Nothing is known of the images, so that nothing is measured."]) + "\n"
    for measure, title in TITLES.items():
        rows = [
            [feature, *(_cell(scores[kind][measure]) for kind in kinds)]
            for feature, scores in {"chance": results["chance"], **results["features"]}.items()
        ]
        parts.append(text_tables.to_markdown([f"{title.format(top=results['top'])}, ranked by", *kinds], rows))
    unmatched = {kind: results["queries"] - matched for kind, matched in results["queries_with_a_match"].items()}
    notes = ["Percent. A gallery image is relevant if it has the query's label, by which a column is called."]
    notes += [
        f"{count(left, 'query')} without a relevant image {'is' if left == 1 else 'are'} left out of {kind}."
        for kind, left in unmatched.items()
        if left
    ]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def _cell(summary: Mapping[str, Any]) -> str:
    if summary["mean"] is None or summary["mean"] != summary["mean"]:
        return "none"
    spread = f" ± {summary['std']:.1f}" if len(summary["seeds"]) > 1 else ""
    return f"{summary['mean']:.1f}{spread}"
