r"""Job: where in the images of a user CLIP, or what a run has learned, sees a text.

    python -m dear_jax.main --config=configs/explain.py --config.images='*.jpg' --config.text="a red wing"

images, texts, perhaps a run -> contributions by head and position (`roles.places`) -> overlays, explanations.csv,
explanations.npz, explanations.html. Images that cannot be read are named in the table and at the end, with exit code 2;
the others are done all the same.
"""

from collections import Counter
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import transforms, unlabelled
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.errors import UserError, count, show
from dear_jax.evaluation import explanation
from dear_jax.evaluation.batches import batches
from dear_jax.evaluation.explanation import Explainer
from dear_jax.evaluation.features import Encoder
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, describe_backbone, describe_run, describe_seeds
from dear_jax.methods import paths
from dear_jax.methods.adapter_file import Trained
from dear_jax.methods.contract import Method
from dear_jax.parallel import agreement, processes, sharding
from dear_jax.report import heat_maps
from dear_jax.report.heat_maps import OfImage
from dear_jax.roles import sentences
from dear_jax.setup import backbones, runs
from dear_jax.setup.plans.explain import ExplanationPlan, make_plan

__all__ = ["describe", "make_plan", "run"]

AS_IT_IS = "{}"  # a text is its own prompt
SHOWN = 20  # images printed


def run(plan: ExplanationPlan, workdir: epath.Path) -> None:
    """Explain the plan's images for its texts.

    Raises:
        UserError: no image, no text, a bad run; at the end, images that could not be read.
    """
    images = unlabelled.asked_for(plan.images, plan.exif)
    wanted = plan.maps.count(len(images))
    with processes.open_workdir(plan.config, workdir) as (files, _):
        trained, backbone = load(plan)
        check_texts(plan, backbone)
        seen = {"images": len(images), "names_sha256": images.names_sha256()}
        agreement.check_alike(plan.config.values, seen, backbone.fingerprint)
        explainer, about = make_explainer(plan, trained, backbone)
        print(f"{count(wanted, 'image')}, {count(len(plan.texts), 'text')}, {about}", flush=True)
        bad = explain(plan, explainer, images.subset(range(wanted)), backbone, files, about, len(images) - wanted)
        print(f"All files of this run are in {files.path}; {heat_maps.PAGE} opens in a browser.", flush=True)
    if bad:
        raise UserError(unlabelled.unreadable(bad, wanted))


def load(plan: ExplanationPlan) -> tuple[Trained | None, Backbone]:
    """One variant of the run, if there is one, and its backbone or the plan's."""
    return runs.load_chosen(plan.run, "explain") if plan.run.run else (None, backbones.load(plan.backbone))


def check_texts(plan: ExplanationPlan, backbone: Backbone) -> None:
    """Refuse what cannot be looked for.

    Raises:
        UserError: no text, an empty one, one that is there twice, or one that is too long for the text tower.
    """
    if not all(plan.texts):
        raise UserError(
            'config.text is empty, or one of its texts is: say what to look for, such as --config.text="a red wing"; '
            "several texts with | between."
        )
    twice = [text for text, times in Counter(plan.texts).items() if times > 1]
    if twice:
        raise UserError(f"config.text has {show(twice[0])} more than once: give each text once.")
    backbone.tokenizer(list(plan.texts))


def make_explainer(plan: ExplanationPlan, trained: Trained | None, backbone: Backbone) -> tuple[Explainer, str]:
    """What explains, and what to say of it.

    Raises:
        UserError: the run's method has no maps, or knows no texts but the classes that it was trained on.
    """
    if trained is None:
        features = sentences.encode_texts(backbone, plan.texts)
        return explanation.of_clip(backbone, features), f"by plain CLIP, backbone {backbone.name}."
    encoder = Encoder(trained, backbone, jnp.float32, plan.batch_size, plan.workers)
    _check_method(encoder.method)
    explanation.check(encoder.method, encoder.run, encoder.params)
    groups = encoder.classes(plan.texts, AS_IT_IS)
    rule = paths.parse_rule(plan.new_classes) if plan.new_classes else encoder.method.new_classes
    explainer = explanation.of_run(encoder, groups, rule)
    whose = f"variant {trained.names[0]}, {describe_seeds(trained.seeds)}"
    return explainer, f"by the adapter of {trained.dataset}, {whose}."


def _check_method(method: Method) -> None:
    if not method.open_classes:
        raise UserError(
            f"{type(method).__name__} of this run knows the classes that it was trained on and no other texts. "
            "config.job=predict with config.predict.explain=true explains its predictions."
        )


def explain(
    plan: ExplanationPlan,
    explainer: Explainer,
    images: ImageSplit,
    backbone: Backbone,
    files: Workdir,
    about: str,
    omitted: int,
) -> list[str]:
    """Write the files, and print a line per image and text.

    Returns:
        Which images could not be read, and why.
    """
    explained: list[OfImage] = []
    bad: dict[str, str] = {}
    mesh, chosen, start = sharding.data_mesh(), np.arange(len(plan.texts)), 0
    options: Any = {"what": "Explaining images", "workers": plan.workers, "skip_bad": True}
    names = images.names
    size = max(1, plan.batch_size // len(plan.texts))  # memory grows with both
    for batch in batches(images, size, backbone.config.image_size, mesh, **options):
        pixels = sharding.place(batch["image"], mesh, sharding.DATA)
        found = explainer(pixels, np.tile(chosen, (len(batch["valid"]), 1)), plan.texts)
        for index, (rows, good) in enumerate(zip(found, batch["valid"], strict=True), start=start):
            if index >= len(images):
                break
            if not good:
                bad[names[index]] = images.problem(index)
                continue
            picture = transforms.resize_and_crop(images.load(index), plan.maps.size)
            explained.append(OfImage(index + 1, names[index], picture, rows))
            if len(explained) <= SHOWN:
                said = ", ".join(f"{row.text!r} {row.path}: {row.logit:.2f}" for row in rows[: len(plan.texts)])
                print(f"{names[index]}: {said}", flush=True)
        start += len(batch["valid"])
    title = f"Where it is: {', '.join(plan.texts)}"
    for name, content in heat_maps.files_of(explained, bad, title, f"Logits {about}", omitted):
        files.write_bytes(name, content)
    return list(bad.values())


def describe(plan: ExplanationPlan, description: Description) -> None:
    """The dry run: run, backbone, images and texts."""
    loaded = description.attempt(load, plan)
    if loaded is not None:
        trained, backbone = loaded
        description.section("Backbone", describe_backbone(backbone))
        if trained is not None:
            description.section("Run", describe_run(trained))
        description.attempt(check_texts, plan, backbone)
        if trained is not None:
            description.attempt(_check_run, trained, backbone)
    images = description.attempt(unlabelled.asked_for, plan.images, plan.exif)
    if images is not None:
        shown = f"{len(images)}, from {images.names[0]} to {images.names[-1]}; {plan.maps.count(len(images))} explained"
        description.section("Data", {"images": shown, "texts": "; ".join(map(repr, plan.texts))})


def _check_run(trained: Trained, backbone: Backbone) -> None:
    (adapters,) = runs.restore(trained, backbone, jnp.float32)
    _check_method(adapters.method)
    explanation.check(adapters.method, (adapters.adapter, adapters.settings), backbone.params)
