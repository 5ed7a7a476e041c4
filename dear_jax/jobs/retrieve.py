"""Job: attribute-conditioned image retrieval: a gallery ranked by the features of each attribute and of the class.

    python -m dear_jax.main --config=configs/retrieve.py --config.run=WORKDIR

run, images -> unit features -> rankings by cosine -> precision@k and mAP for whatever is known of the images ->
retrieval.md, retrieval.json, rankings.csv, contact_sheet.png and contact_sheet.html. Read `run` from top to bottom.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from dear_jax import __version__
from dear_jax.data import transforms, truth, unlabelled
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError, count
from dear_jax.evaluation import ranking
from dear_jax.evaluation.features import Encoder, check_images
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, describe_backbone, describe_run
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.contract import CLASS_PATH
from dear_jax.parallel import agreement, processes
from dear_jax.report import contact_sheet, retrieval_tables
from dear_jax.report.contact_sheet import Hit, Query, Ranking, Sheet
from dear_jax.report.predictions import ZERO_SHOT
from dear_jax.report.text_tables import to_csv
from dear_jax.setup import data, methods, runs
from dear_jax.setup.plans.retrieve import RetrievalPlan, make_plan

__all__ = ["describe", "make_plan", "run"]

THUMBNAIL = 96  # pixels, at most


@dataclasses.dataclass(frozen=True)
class Images:
    """N images that could be read, their features, and what is known of them."""

    split: ImageSplit
    features: Mapping[str, np.ndarray]  # float32 [S, N, d] per name: zero-shot CLIP (S = 1), class, the attributes
    labels: Mapping[str, np.ndarray]  # str [N] per attribute, and for the class where there are classes
    problems: tuple[str, ...]  # of the images left out


def run(plan: RetrievalPlan, workdir: epath.Path) -> None:
    """Rank the gallery for every query, measure, and show.

    Raises:
        UserError: a bad run or data set; at the end, images of one's own that could not be read.
    """
    with processes.open_workdir(plan.config, workdir) as (files, _):
        with processes.together():
            trained, backbone = runs.load_chosen(plan.run, "retrieve")
            known = (*trained.class_names, *trained.other_classes)
            splits, source = open_splits(plan, files, known)
        seen = {**source, "images": [*map(len, splits)], "names_sha256": [split.names_sha256() for split in splits]}
        agreement.check_alike(plan.config.values, seen, backbone.fingerprint)
        print(f"{_sizes(*splits)} of {source['name']}.", flush=True)
        encoder = Encoder(trained, backbone, plan.backbone.compute_dtype, plan.batch_size, plan.workers)
        skip_bad = bool(plan.images) or plan.data.places.skip_bad
        queries, gallery = (encode(encoder, split, source.get("class_names"), skip_bad) for split in splits)
        problems = [*queries.problems, *gallery.problems]
        if not (len(queries.split) and len(gallery.split)):
            raise UserError(unlabelled.unreadable(problems, sum(map(len, splits))))

        results = {"data": source, **describe_trained(trained), **measure(queries, gallery, plan.top)}
        files.write_json("retrieval.json", results | {"skipped": problems})
        table = retrieval_tables.markdown(results)
        files.write_text("retrieval.md", table)
        files.write_text("rankings.csv", to_csv(ranking_rows(queries, gallery, plan.top)))
        title = f"Retrieval by attribute: {source['name']}"
        size = min(backbone.config.image_size, THUMBNAIL)
        with processes.together():
            if processes.is_first():
                about = describe_features(trained)
                sheet = make_sheet(title, about, queries, gallery, shown=plan.shown, top=plan.top, size=size)
                files.write_bytes("contact_sheet.png", contact_sheet.to_png(sheet))
                files.write_text("contact_sheet.html", contact_sheet.to_html(sheet))
        print(
            f"\n{table}\nAll files of this run are in {files.path}; contact_sheet.html opens in a browser.", flush=True
        )
    if problems and plan.images:
        raise UserError(unlabelled.unreadable(problems, sum(map(len, splits))))


def open_splits(
    plan: RetrievalPlan, files: Workdir | None = None, known: Sequence[str] = ()
) -> tuple[tuple[ImageSplit, ImageSplit], dict[str, Any]]:
    """Queries and gallery, and where they come from.

    Images of one's own have classes where all of them lie in folders called after `known` ones.
    """
    if plan.query_images and not plan.images:
        raise UserError("config.retrieve.query_images needs a gallery: give config.images, too.")
    if not plan.images:
        dataset = data.open_dataset(plan.data, files)
        return draw(dataset.test, plan.queries, plan.seed), dict(dataset.notes)
    texts = (plan.images, plan.query_images) if plan.query_images else (plan.images,)
    splits = [unlabelled.gather(text, plan.data.places.exif) for text in texts]
    truths = [
        truth.of_folders(split.names, unlabelled.top(text), known) for split, text in zip(splits, texts, strict=True)
    ]
    source: dict[str, Any] = {"name": plan.images, "source": "images"}
    if all(map(all, truths)):
        source["class_names"] = list(known)
        labels = [np.array([known.index(name) for name in of], np.int64) for of in truths]
        splits = [dataclasses.replace(split, labels=of) for split, of in zip(splits, labels, strict=True)]
    if plan.query_images:
        return (splits[1], splits[0]), source
    return draw(splits[0], plan.queries, plan.seed), source


def _sizes(queries: ImageSplit, gallery: ImageSplit) -> str:
    return f"{count(len(queries), 'query')}, {count(len(gallery), 'gallery image')}"


def draw(split: ImageSplit, queries: int, seed: int) -> tuple[ImageSplit, ImageSplit]:
    """Queries, at most half of the images, in the order of the draw; and the other images in their own."""
    if len(split) < 2:
        raise UserError(f"Retrieval needs at least 2 images, a query and a gallery; found {len(split)}.")
    order = np.random.default_rng(seed).permutation(len(split))
    drawn = min(queries, len(split) // 2)
    return split.subset(order[:drawn]), split.subset(np.sort(order[drawn:]))


def encode(encoder: Encoder, split: ImageSplit, class_names: list[str] | None, skip_bad: bool) -> Images:
    """The features of a split's readable images."""
    adapted, plain, valid = [], [], []
    for features, good in encoder.images(split, skip_bad):
        adapted.append(np.asarray(features.adapted)[:, good])
        plain.append(np.asarray(features.plain)[good])
        valid.append(good)
    readable = np.concatenate(valid)[: len(split)]
    kept = split.subset(np.flatnonzero(readable))
    paths = np.concatenate(adapted, axis=1)
    by_path = {name: paths[:, :, index] for index, name in enumerate(encoder.paths)}
    labels = dict(kept.attributes)
    if class_names:
        labels[CLASS_PATH] = np.array(class_names)[kept.labels]
    problems = tuple(split.problem(int(index)) for index in np.flatnonzero(~readable))
    return Images(kept, {ZERO_SHOT: np.concatenate(plain)[None], **by_path}, labels, problems)


def describe_trained(trained: Trained) -> dict[str, Any]:
    """Whose features these are."""
    return {
        "trained_on": trained.dataset,
        "backbone": trained.backbone,
        "variant": trained.names[0],
        "seeds": list(trained.seeds),
        "version": __version__,
    }


def measure(queries: Images, gallery: Images, top: int) -> dict[str, Any]:
    """Precision@top and mAP in percent of ranking by each feature, for each kind of label."""
    labels = {kind: (values, gallery.labels[kind]) for kind, values in queries.labels.items()}
    scores: dict[str, Any] = {}
    for name, features in queries.features.items():
        seeds = [
            ranking.score(ours, theirs, labels, top)
            for ours, theirs in zip(features, gallery.features[name], strict=True)
        ]
        scores[name] = {kind: _summarize([seed[kind] for seed in seeds]) for kind in labels}
    return {
        "queries": len(queries.split),
        "gallery": len(gallery.split),
        "top": min(top, len(gallery.split)),
        "queries_with_a_match": {kind: ranking.matched(*pair) for kind, pair in labels.items()},
        "chance": {kind: _summarize([ranking.chance(*pair)]) for kind, pair in labels.items()},
        "features": scores,
    }


def _summarize(seeds: list[ranking.Scores]) -> dict[str, Any]:
    """Percent: mean, population standard deviation and every seed, of both measures."""
    summary = {}
    for measure in ranking.Scores._fields:
        values = [100 * getattr(seed, measure) for seed in seeds]
        summary[measure] = {"mean": float(np.mean(values)), "std": float(np.std(values)), "seeds": values}
    return summary


def top_of(queries: Images, gallery: Images, feature: str, top: int) -> tuple[np.ndarray, np.ndarray]:
    """Gallery places [Q, top] and cosines of the first seed."""
    ours, theirs = queries.features[feature][0], gallery.features[feature][0]
    order = ranking.ranking(ours, theirs, top)
    return order, np.einsum("qd,qtd->qt", ours, theirs[order])


def ranking_rows(queries: Images, gallery: Images, top: int) -> list[list[str]]:
    """The rows of rankings.csv."""
    rows = [["query", "feature", "rank", "image", "cosine"]]
    query_names, names = queries.split.names, gallery.split.names
    for feature in queries.features:
        for query, places, cosines in zip(query_names, *top_of(queries, gallery, feature, top), strict=True):
            ranked = enumerate(zip(places, cosines, strict=True), start=1)
            rows += [[query, feature, str(rank), names[place], f"{cosine:.6f}"] for rank, (place, cosine) in ranked]
    return rows


def describe_features(trained: Trained) -> str:
    """Whose features rank the images of a contact sheet: of several seeds those of the first."""
    title = methods.find(trained.method).TITLE
    seeds = f"seed {trained.seeds[0]}" + (f", the first of {len(trained.seeds)}" if len(trained.seeds) > 1 else "")
    return (
        f"{title} trained on {trained.dataset} ({count(trained.shots, 'shot')}), variant {trained.names[0]}, {seeds}; "
        f"backbone {trained.backbone} ({trained.fingerprint})."
    )


def make_sheet(
    title: str, about: str, queries: Images, gallery: Images, *, shown: int, top: int, size: int
) -> Sheet:
    """The first queries with what each feature finds, and whether it has the query's label."""
    shown = min(shown, len(queries.split))
    tops = {name: top_of(queries, gallery, name, top) for name in queries.features}
    used, places = np.unique(np.stack([order[:shown] for order, _ in tops.values()]), return_inverse=True)
    places = places.reshape(len(tops), shown, -1)
    splits = ((queries.split, range(shown)), (gallery.split, used.tolist()))
    pictures = [transforms.resize_and_crop(split.load(i), size) for split, indices in splits for i in indices]
    titles = [
        _title(images, i) for images, (_, indices) in zip((queries, gallery), splits, strict=True) for i in indices
    ]
    found = []
    for q in range(shown):
        rankings = []
        for row, (name, (order, cosines)) in enumerate(tops.items()):
            kind = CLASS_PATH if name == ZERO_SHOT else name
            same = _same(queries, gallery, kind, q, order[q])
            labels = gallery.labels[kind][order[q]] if kind in gallery.labels else [""] * len(same)
            found_here = zip(places[row, q], cosines[q], same, labels, strict=True)
            hits = [Hit(shown + int(p), float(c), s, str(label)) for p, c, s, label in found_here]
            rankings.append(Ranking(name, kind if kind in queries.labels else "", tuple(hits)))
        found.append(Query(q, tuple(rankings)))
    return Sheet(title, about, np.stack(pictures), tuple(titles), tuple(found))


def _same(queries: Images, gallery: Images, kind: str, query: int, places: np.ndarray) -> list[bool | None]:
    """Which gallery images have the query's label; None where no such label is known."""
    if kind not in queries.labels:
        return [None] * len(places)
    return (gallery.labels[kind][places] == queries.labels[kind][query]).tolist()


def _title(images: Images, index: int) -> str:
    """The name of an image and all that is known of it."""
    known = ", ".join(f"{kind}: {values[index]}" for kind, values in images.labels.items())
    return images.split.names[index] + (f" ({known})" if known else "")


def describe(plan: RetrievalPlan, description: Description) -> None:
    """The dry run: run, backbone, queries and gallery."""
    loaded = description.attempt(runs.load_chosen, plan.run, "retrieve")
    if loaded is not None:
        trained, backbone = loaded
        description.section("Backbone", describe_backbone(backbone))
        description.attempt(check_images, trained, backbone, plan.backbone.compute_dtype)
        description.section("Run", describe_run(trained))
    known = (*loaded[0].class_names, *loaded[0].other_classes) if loaded else ()
    description.section("Data", description.attempt(_describe_splits, plan, known))


def _describe_splits(plan: RetrievalPlan, class_names: Sequence[str]) -> dict[str, Any]:
    (queries, gallery), source = open_splits(plan, known=class_names)
    known = ", ".join([*queries.attributes, *(["class"] if "class_names" in source else [])])
    return {
        "images": f"{_sizes(queries, gallery)} of {source['name']}",
        "measured by": known or "nothing: no labels are known",
    }
