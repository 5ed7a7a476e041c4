"""The model card of a run: what the page of its repository on the Hugging Face Hub says of it.

In: results.json and what is known of the adapter. Out: Markdown that begins with the hub's metadata as YAML. Its form
is in templates/model_card.md.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dear_jax.data.datasets import DATASETS
from dear_jax.errors import count
from dear_jax.files import hub
from dear_jax.report import pages, tables

FILE = "README.md"  # as the hub shows it
LIBRARY = "dear_jax"
SHOWN = 20  # names of classes


@dataclasses.dataclass(frozen=True)
class About:
    """What results do not say of an adapter."""

    repository: str  # USER/NAME
    method: str  # its name
    backbone: str
    base_model: str  # its repository on the hub; empty: none is known
    fingerprint: str  # of the backbone
    template: str
    class_names: Sequence[str]  # trained on
    seeds: Sequence[int]
    license: str  # as the hub calls it; empty: none was chosen
    command: str  # that makes such a run; empty where it is not known


def render(results: Mapping[str, Any], about: About) -> str:
    """The card."""
    title = f"{tables.method_title(results)} on {results['dataset']}"
    names = [*about.class_names[:SHOWN], *(["..."] if len(about.class_names) > SHOWN else [])]
    return pages.render(
        "model_card.md",
        metadata=_metadata(results, about, title),
        title=title,
        about=about,
        results=results,
        method=tables.method_title(results),
        trained_on=f"{count(len(about.class_names), 'class')}, {count(results['shots'], 'image')} of each",
        names=", ".join(names),
        example=json.dumps(list(about.class_names[:2]), ensure_ascii=False),
        tables=tables.results_markdown(results),
    )


def _metadata(results: Mapping[str, Any], about: About, title: str) -> str:
    from huggingface_hub import ModelCardData  # slow to import, and only needed here

    known = _dataset(results)
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag="zero-shot-image-classification",
        tags=["clip", "jax", "few-shot", about.method, results["protocol"], results["dataset"]],
        base_model=about.base_model or None,
        base_model_relation="adapter" if about.base_model else None,
        license=about.license or None,
        datasets=[known] if known else None,
        metrics=["accuracy"],
        model_name=title,
        eval_results=list(_measured(results)),
    )
    return data.to_yaml()


def _dataset(results: Mapping[str, Any]) -> str:
    """The repository of the data set on the hub, as far as it is known."""
    name = str(results["data"].get("hf", "")).partition("@")[0].partition(":")[0]
    if hub.is_repository(name):
        return name
    return DATASETS[results["dataset"]].hub if results["dataset"] in DATASETS else ""


def _measured(results: Mapping[str, Any]) -> Iterator[Any]:
    """The mean over the seeds of every accuracy, of the first variant."""
    from huggingface_hub import EvalResult

    first = next(iter(results["variants"].values()))
    for column, value in first["mean"].items():
        yield EvalResult(
            task_type="image-classification",
            dataset_type=results["dataset"],
            dataset_name=results["dataset"],
            metric_type="accuracy",
            metric_name=f"{tables.TITLES.get(column, column)}, percent",
            metric_value=round(float(value), 2),
        )
