"""Job: the role map of a CLIP, and a report that shows what it rests on.

plan -> backbone, images -> contributions, descriptions, concepts, roles -> role_map.json -> accuracy without
each head -> tables, figures and roles.html. Read `run` from top to bottom.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import transforms
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.skipping import Checked
from dear_jax.files.local_copy import local_folder
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, describe_analysis, describe_backbone, describe_dataset
from dear_jax.parallel import agreement, processes
from dear_jax.report import figures, heat_maps, role_comparison, role_tables, roles_html
from dear_jax.report.heads import entropy_name
from dear_jax.report.role_comparison import Comparison, compare
from dear_jax.roles import ablation, curves, sentences
from dear_jax.roles import role_map as role_maps
from dear_jax.roles.analysis import Analysis, analyse, prepare
from dear_jax.roles.places import map_heads
from dear_jax.roles.role_map import Roles
from dear_jax.setup import backbones, data
from dear_jax.setup.plans.find_roles import AnalysisPlan, make_plan
from dear_jax.setup.roles import first_layer

__all__ = ["describe", "make_plan", "run"]

THUMBNAIL = 96  # pixels, at most
MAPPED = 4  # images of a head of which a map is drawn


def run(plan: AnalysisPlan, workdir: epath.PathLike) -> None:
    """Find the roles, or go on where an earlier start stopped; write the map and the report.

    Raises:
        UserError: a bad input file, bank or image; a layer that the backbone does not have.
    """
    roles, skip_bad = plan.roles, plan.roles.data.places.skip_bad
    with processes.open_workdir(plan.config, workdir) as (files, _):
        with processes.together():
            backbone = backbones.load(plan.backbone)
            first = first_layer(backbone, plan.first_layer)
            dataset = data.open_dataset(roles.data, files)
            data.check_names(roles.data, dataset, backbone)
            texts = data.class_prompts(roles.data, dataset)
            classes = sentences.encode_texts(backbone, texts)  # before the long part: a wrong prompt is told at once
            other = role_maps.load(plan.compare).to_dict() if plan.compare else None
            if other is not None:
                role_comparison.check(other, plan.compare)
            inputs = prepare(backbone, dataset.train, plan.attributes, roles.options)
        agreement.check_alike(plan.config.values, dataset.notes, backbone.fingerprint)
        analysis = analyse(
            backbone,
            dataset,
            first_layer=first,
            attributes=plan.attributes,
            options=roles.options,
            folder=local_folder(files.path),
            encoder=inputs.encoder,
            skip_bad=skip_bad,
            workers=roles.workers,
            shared=True,
        )
        with processes.together():
            files.write_json("role_map.json", analysis.role_map.to_dict())
        _print(analysis.role_map.to_dict())
        test = Checked(dataset.test).readable() if skip_bad else dataset.test
        effects = measure_ablation(plan, backbone, test, classes, analysis)
        with processes.together():
            if processes.is_first():
                comparison = compare(analysis.role_map.to_dict(), other, plan.compare) if other else None
                report(files, analysis, effects, backbone, plan.top_images, comparison)
        print(f"All files of this run are in {files.path}; roles.html opens in a browser.", flush=True)


def measure_ablation(
    plan: AnalysisPlan, backbone: Backbone, test: ImageSplit, classes: np.ndarray, analysis: Analysis
) -> dict[str, Any] | None:
    """Zero-shot classification of test images without each head, the heads of a role, and as many random ones.

    With `config.roles.causes` also with ever more heads ablated, in the order of three scores and in random ones.
    """
    if not len(test) or len(classes) < 2:
        return None
    roles = analysis.role_map.roles
    shape = (len(roles), len(roles[0]))
    kinds = sorted({role for row in roles for role in row})
    groups = ablation.each_role(roles, kinds)
    controls = [ablation.random_sets(int(group.sum()), shape) for group in groups]
    values = None
    if processes.is_first():
        orders = {}
        if plan.roles.options.causes:
            entropy, labels = analysis.role_map.details["entropy"], analysis.images.labels
            orders = curves.score_orders(analysis.contributions, entropy, labels, classes)
        values = {"means": ablation.means(analysis.contributions).tolist(), "orders": orders}
    given = agreement.from_first(values)
    along = curves.sets(given["orders"], shape)
    measured = ablation.effects(
        backbone,
        test,
        classes,
        first_layer=analysis.role_map.first_layer,
        means=np.array(given["means"], np.float32),
        ablated=np.concatenate([ablation.each_head(roles), groups, *controls, *along.values()]),
        batch_size=plan.roles.options.batch_size,
        workers=plan.roles.workers,
    )
    heads, alone = groups[0].size, 1 + groups[0].size
    found: dict[str, Any] = {
        "images": measured.images,
        "accuracy": float(measured.accuracy[0]),
        "margin": float(measured.margin[0]),
        "heads": measured.accuracy[1:alone].reshape(shape).tolist(),
        "head_margins": measured.margin[1:alone].reshape(shape).tolist(),
        "roles": dict(zip(kinds, measured.accuracy[alone : alone + len(kinds)].tolist(), strict=True)),
        "sets": {},
    }
    start = alone + len(kinds)
    for place, (kind, control) in enumerate(zip(kinds, controls, strict=True), start=alone):
        random = slice(start, start := start + len(control))
        found["sets"][kind] = {
            "lost": int(measured.lost[place]),
            "gained": int(measured.gained[place]),
            "change": float(measured.change[place]),
            "error": float(measured.error[place]),
            "margin": float(measured.margin[place] - measured.margin[0]),
            "random_change": _mean_and_spread(measured.change[random]),
            "random_margin": _mean_and_spread(measured.margin[random] - measured.margin[0]),
        }
    if along:
        found["curves"] = curves.summarize(curves.points(heads), list(along), measured.accuracy[start:])
    return found


def _mean_and_spread(values: np.ndarray) -> list[float]:
    return [float(values.mean()), float(values.std())]


def report(
    files: Workdir,
    analysis: Analysis,
    effects: dict[str, Any] | None,
    backbone: Backbone,
    top: int,
    comparison: Comparison | None = None,
) -> None:
    """Tables, figures and the page."""
    role_map = analysis.role_map.to_dict()
    thumbnails = top_images(analysis.contributions, analysis.images, min(backbone.config.image_size, THUMBNAIL), top)
    content = io.BytesIO()
    np.savez_compressed(content, images=thumbnails["images"], top=thumbnails["top"])
    files.write_bytes("images.npz", content.getvalue())
    if effects is not None:
        files.write_json("ablation.json", effects)
    files.write_text("heads.csv", role_tables.heads_csv(role_map, effects))
    files.write_text("descriptions.csv", role_tables.descriptions_csv(role_map))
    figures.draw_role_map(role_map, files.path / "role_map")
    figures.draw_entropy_histogram(role_map, files.path / "entropy")
    figures.draw_heads(role_map, thumbnails, files.path / "heads")
    thumbnails |= overlays(backbone, analysis, thumbnails)
    roles_html.write(files.path / "roles.html", role_map, thumbnails, effects, comparison)


def top_images(contributions: np.ndarray, images: ImageSplit, size: int, count: int) -> dict[str, np.ndarray]:
    """Of each head, the images whose contribution is furthest from its mean; each picture once, in small."""
    _, layers, heads, _ = contributions.shape
    count = min(count, len(images))
    places = np.empty((layers, heads, count), int)
    for layer in range(layers):
        for head in range(heads):
            part = np.asarray(contributions[:, layer, head], np.float32)
            distance = np.linalg.norm(part - part.mean(0, keepdims=True), axis=1)
            places[layer, head] = np.argsort(-distance, kind="stable")[:count]
    shown, top = np.unique(places, return_inverse=True)
    pictures = [transforms.resize_and_crop(images.load(int(index)), size) for index in shown]
    return {"images": np.stack(pictures), "top": top.reshape(places.shape), "shown": shown}


def overlays(backbone: Backbone, analysis: Analysis, thumbnails: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first of each head's images under the map of its own first description.

    Returns:
        "images", the thumbnails and, behind them, the overlays; "maps" `[layers, heads, n]`, where those of a head are.
    """
    heads, size = analysis.role_map.details["heads"], backbone.config.image_size
    chosen = thumbnails["top"][:, :, :MAPPED]
    used, places_of = np.unique(chosen, return_inverse=True)
    pictures = [transforms.resize_and_crop(analysis.images.load(int(thumbnails["shown"][one])), size) for one in used]
    firsts = [head["descriptions"][0]["text"] for row in heads for head in row]
    texts = sentences.encode_texts(backbone, firsts).reshape(*chosen.shape[:2], -1)
    found = map_heads(backbone, np.stack(pictures), texts, analysis.role_map.first_layer)
    side, places_of = backbone.config.image_size // backbone.config.patch_size, places_of.reshape(chosen.shape)
    drawn = [
        heat_maps.overlay(thumbnails["images"][used[place]], found[place, layer, head].reshape(side, side))
        for (layer, head, _), place in np.ndenumerate(places_of)
    ]
    start = len(thumbnails["images"])
    maps = start + np.arange(chosen.size).reshape(chosen.shape)
    return {"images": np.concatenate([thumbnails["images"], np.stack(drawn)]), "maps": maps}


def _print(role_map: dict[str, Any]) -> None:
    """The roles and entropies as a table of layers and heads."""
    roles: Roles = role_map["roles"]
    kinds = sorted({role for row in roles for role in row})
    counts = ", ".join(f"{sum(row.count(kind) for row in roles)} {kind}" for kind in kinds)
    print(f"Roles: {counts}. {entropy_name(role_map)} in bits:")
    width = max(len(kind.removeprefix("attribute:")) for kind in kinds) + 7  # the entropy, and a gap
    print("        " + "".join(f"{f'head {head}':>{width}}" for head in range(len(roles[0]))))
    for index, (row, entropies) in enumerate(zip(roles, role_map["entropy"], strict=True)):
        cells = [f"{role.removeprefix('attribute:')} {bits:.2f}" for role, bits in zip(row, entropies, strict=True)]
        print(f"layer {role_map['first_layer'] + index:>2}" + "".join(f"{cell:>{width}}" for cell in cells), flush=True)


def describe(plan: AnalysisPlan, description: Description) -> None:
    """The dry run: backbone, data and work."""
    backbone = description.attempt(backbones.load, plan.backbone)
    if backbone is None:
        description.attempt(data.open_dataset, plan.roles.data)  # its problems come out all the same
        return
    description.section("Backbone", describe_backbone(backbone))
    first = description.attempt(first_layer, backbone, plan.first_layer)
    dataset = description.attempt(data.open_dataset, plan.roles.data)
    if dataset is None:
        return
    prompts = description.attempt(data.class_prompts, plan.roles.data, dataset)
    if prompts is not None:
        description.section("Data", describe_dataset(dataset, prompts))
        description.attempt(data.check_names, plan.roles.data, dataset, backbone)
    if first is not None:
        rows = description.attempt(describe_analysis, plan.roles, backbone, dataset, first, plan.attributes)
        description.section("Work", rows)
