"""Job: the role map of a CLIP, and a report that shows what it rests on.

config -> backbone, images -> contributions, descriptions, concepts, roles -> role_map.json -> accuracy without
each head -> tables, figures and roles.html. Read `run` from top to bottom.
"""

import csv
import io
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import prompts, transforms
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.skipping import Checked
from dear_jax.errors import UserError
from dear_jax.files.local_copy import local_folder
from dear_jax.files.workdir import Workdir
from dear_jax.report import figures, roles_html
from dear_jax.roles import ablation, sentences
from dear_jax.roles.analysis import Analysis, analyse
from dear_jax.roles.role_map import Roles
from dear_jax.setup import data as setup_data
from dear_jax.setup import programs as setup
from dear_jax.setup import roles as setup_roles

THUMBNAIL = 96  # pixels, at most


def run(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Find the roles, or go on where an earlier start stopped; write the map and the report.

    Raises:
        UserError: a bad config value, input file, bank or image.
    """
    setup.check(config)
    if config.roles.top_images < 1:
        raise UserError(f"config.roles.top_images is {config.roles.top_images}, expected 1 or more.")
    with Workdir(workdir) as files:
        files.check_config(config)
        backbone = setup.load_backbone(config)
        model = setup.make_model(config, backbone)
        dataset = setup_data.open_dataset(config, files)
        texts = prompts.prompts(dataset.class_names, config.data.template or dataset.template, dataset.distinct_names)
        classes = sentences.encode_texts(backbone, texts)  # before the long part: a wrong prompt is told at once
        analysis = analyse(
            backbone,
            dataset,
            first_layer=model.structure.vision_layer,
            attributes=model.structure.attributes,
            options=setup_roles.role_options(config),
            folder=local_folder(files.path),
            skip_bad=config.data.skip_bad,
            workers=config.data.workers,
        )
        analysis.role_map.save(files.path / "role_map.json")
        _print(analysis.role_map.to_dict())
        test = Checked(dataset.test).readable() if config.data.skip_bad else dataset.test
        effects = measure_ablation(config, backbone, test, classes, analysis)
        report(files, analysis, effects, backbone.config.image_size, config.roles.top_images)
        print(f"All files of this run are in {files.path}; roles.html opens in a browser.", flush=True)


def measure_ablation(
    config: ConfigDict, backbone: Backbone, test: ImageSplit, classes: np.ndarray, analysis: Analysis
) -> dict[str, Any] | None:
    """Zero-shot accuracy on test images, whole, without each head, and without all heads of a role."""
    if not len(test):
        return None
    roles = analysis.role_map.roles
    kinds = sorted({role for row in roles for role in row})
    sets = np.concatenate([ablation.each_head(roles), ablation.each_role(roles, kinds)])
    accuracies = ablation.accuracies(
        backbone,
        test,
        classes,
        first_layer=analysis.role_map.first_layer,
        means=ablation.means(analysis.contributions),
        ablated=sets,
        batch_size=config.roles.batch_size,
        workers=config.data.workers,
    )
    count = len(roles) * len(roles[0])
    return {
        "accuracy": accuracies[0],
        "heads": np.reshape(accuracies[1 : 1 + count], (len(roles), -1)).tolist(),
        "roles": dict(zip(kinds, accuracies[1 + count :], strict=True)),
    }


def report(files: Workdir, analysis: Analysis, effects: dict[str, Any] | None, image_size: int, top: int) -> None:
    """Tables, figures and the page."""
    role_map = analysis.role_map.to_dict()
    thumbnails = top_images(analysis.contributions, analysis.images, min(image_size, THUMBNAIL), top)
    with (files.path / "images.npz").open("wb") as file:
        np.savez_compressed(file, images=thumbnails["images"], top=thumbnails["top"])
    if effects is not None:
        files.write_json("ablation.json", effects)
    files.write_text("heads.csv", _csv(head_rows(role_map, effects)))
    files.write_text("descriptions.csv", _csv(description_rows(role_map)))
    figures.draw_role_map(role_map, files.path / "role_map.png")
    figures.draw_entropy_histogram(role_map, files.path / "entropy.png")
    figures.draw_heads(role_map, thumbnails, files.path / "heads.png")
    roles_html.write(files.path / "roles.html", role_map, thumbnails, effects)


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
    return {"images": np.stack(pictures), "top": top.reshape(places.shape)}


def head_rows(role_map: dict[str, Any], effects: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A row per head: layers from 1, heads from 0."""
    rows = []
    for index, row in enumerate(role_map["heads"]):
        for head, values in enumerate(row):
            rows.append(
                {
                    "layer": role_map["first_layer"] + index,
                    "head": head,
                    "role": role_map["roles"][index][head],
                    "entropy_bits": role_map["entropy"][index][head],
                    "cluster": _cluster_name(role_map, values["cluster"]),
                    "share": values["share"],
                    "explained": values["explained"],
                    "accuracy_without": "" if effects is None else round(effects["heads"][index][head], 3),
                }
            )
    return rows


def description_rows(role_map: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per head and description, in the order of picking."""
    return [
        {
            "layer": role_map["first_layer"] + index,
            "head": head,
            "rank": rank,
            "description": description["text"],
            "variance": description["variance"],
            "cluster": _cluster_name(role_map, description["cluster"]),
        }
        for index, row in enumerate(role_map["heads"])
        for head, values in enumerate(row)
        for rank, description in enumerate(values["descriptions"], start=1)
    ]


def _cluster_name(role_map: dict[str, Any], place: int) -> str:
    return "none" if place < 0 else role_map["clusters"][place]["name"] or f"unnamed {place}"


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _print(role_map: dict[str, Any]) -> None:
    """The roles and entropies as a table of layers and heads."""
    roles: Roles = role_map["roles"]
    kinds = sorted({role for row in roles for role in row})
    counts = ", ".join(f"{sum(row.count(kind) for row in roles)} {kind}" for kind in kinds)
    print(f"Roles: {counts}. Concept Entropy in bits:")
    width = max(len(kind.removeprefix("attribute:")) for kind in kinds) + 7  # the entropy, and a gap
    print("        " + "".join(f"{f'head {head}':>{width}}" for head in range(len(roles[0]))))
    for index, (row, entropies) in enumerate(zip(roles, role_map["entropy"], strict=True)):
        cells = [f"{role.removeprefix('attribute:')} {bits:.2f}" for role, bits in zip(row, entropies, strict=True)]
        print(f"layer {role_map['first_layer'] + index:>2}" + "".join(f"{cell:>{width}}" for cell in cells), flush=True)
