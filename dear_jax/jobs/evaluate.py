"""Job: trained adapters, and zero-shot CLIP, on the class sets of a plan. Training ends with the same evaluation.

    python -m dear_jax.main --config=configs/base2new.py --config.job=evaluate                      # zero-shot CLIP
    python -m dear_jax.main --config=configs/few_shot.py:DATASET --config.job=evaluate --config.run=WORKDIR

plan, adapter file -> class sets -> scores -> results.json and results.md. Nothing is trained.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.skipping import Checked
from dear_jax.errors import count
from dear_jax.evaluation import ablation, examples, summary
from dear_jax.evaluation.measure import measure, path_weights
from dear_jax.files import hub
from dear_jax.files.workdir import Workdir
from dear_jax.jobs.description import Description, describe_backbone, describe_data, describe_run
from dear_jax.methods.adapter_file import Trained
from dear_jax.parallel import processes
from dear_jax.report import run_page
from dear_jax.roles.analysis import draw
from dear_jax.roles.role_map import RoleMap
from dear_jax.setup import data, departures, runs
from dear_jax.setup.plans.evaluate import AblationPlan, EvaluationPlan, make_plan
from dear_jax.setup.roles import RoleMaps, first_layer

__all__ = ["describe", "make_plan", "run"]


def run(plan: EvaluationPlan, workdir: epath.Path) -> None:
    """Evaluate the adapters of the plan's run, if it has one, and plain CLIP; write and print the results.

    Raises:
        UserError: a bad input file; a run that is not finished or of another backbone.
    """
    with processes.open_workdir(plan.config, workdir) as (files, config_sha256):
        if summary.report_finished(files, trains=False):
            return
        with processes.together():
            trained, backbone = runs.load(plan.run, plan.backbone)
            runs.inherit_splits(plan.run, plan.data, files)
            classes, notes = data.load_classes(plan.data, backbone, files)
        notes = _noted(plan, backbone, trained, notes)
        inputs = _prepare_ablation(plan, plan.ablation, backbone, trained, files) if plan.ablation else None
        scores = measure(plan.measuring, plan.backbone, backbone, classes, trained)
        weights = path_weights(plan.backbone, backbone, trained)
        results = summary.make_results(plan, trained, scores, config_sha256, notes, classes, weights)
        if trained is not None:
            results["run"] = hub.pinned(plan.run.run)
        if inputs is not None:
            role_map, about, images = inputs
            measuring = plan.measuring
            curves = ablation.measure(
                trained,
                backbone,
                classes,
                images,
                role_map,
                rule=measuring.rule,
                batch_size=measuring.batch_size,
                workers=measuring.workers,
            )
            files.write_json(run_page.ABLATION, {"role_map": about, **curves})
        examples.write(files, plan.measuring, classes, scores, trained, backbone.config.image_size)
        summary.report(results, files)


def _prepare_ablation(
    plan: EvaluationPlan, asked: AblationPlan, backbone: Backbone, trained: Trained | None, files: Workdir
) -> tuple[RoleMap, dict[str, Any], ImageSplit]:
    """The role map, what is noted of it, and the training images from which heads have their means.

    Raises:
        UserError: what cannot be measured, before anything is.
    """
    with processes.together():
        images = _draw_training_images(plan, asked, files)
        images = Checked(images).readable() if plan.data.places.skip_bad else images
        ablation.check(trained, backbone, images)
    role_map, about = RoleMaps(asked.roles, backbone).load(asked.role_map, asked.first_layer, asked.attributes)
    return role_map, about, images


def _draw_training_images(plan: EvaluationPlan, asked: AblationPlan, files: Workdir | None = None) -> ImageSplit:
    options = asked.roles.options
    return draw(data.load_training_images(plan.data, files), options.images, options.seed)


def _noted(
    plan: EvaluationPlan, backbone: Backbone, trained: Trained | None, notes: Mapping[str, Any]
) -> dict[str, Any]:
    """The notes on the data, with whether results compare with published ones."""
    reasons = departures.of_backbone(backbone)
    if trained is not None:
        reasons += departures.of_draws(plan.data.protocol.name, trained.shots, trained.seeds)
    return departures.note(notes, reasons)


def describe(plan: EvaluationPlan, description: Description) -> None:
    """The dry run: run, backbone and data."""
    loaded = description.attempt(runs.load, plan.run, plan.backbone)
    if loaded is None:
        description.attempt(data.open_dataset, plan.data)  # its problems come out all the same
        return
    trained, backbone = loaded
    description.section("Backbone", describe_backbone(backbone))
    if trained is not None:
        description.attempt(runs.restore, trained, backbone, plan.backbone.compute_dtype)
        description.section("Run", describe_run(trained))
    if plan.ablation is not None:
        rows = description.attempt(_describe_ablation, plan, plan.ablation, backbone, trained)
        description.section("Ablation of heads", rows)
    found = description.attempt(data.load_classes, plan.data, backbone)
    if found is not None:
        classes, notes = found
        description.section("Data", describe_data(classes, _noted(plan, backbone, trained, notes)))


def _describe_ablation(
    plan: EvaluationPlan, asked: AblationPlan, backbone: Backbone, trained: Trained | None
) -> dict[str, Any]:
    images = _draw_training_images(plan, asked)
    ablation.check(trained, backbone, images)
    maps = RoleMaps(asked.roles, backbone, make=False)
    if asked.role_map:
        role_map, about = maps.load(asked.role_map, asked.first_layer, asked.attributes)
        shown, first = about["path"], role_map.first_layer
    else:
        first = first_layer(backbone, asked.first_layer)
        maps.roles("", first, asked.attributes)
        shown = "; ".join(f"{path}, {state}" for path, state in maps.found.items())
    layers = f"{first} to {backbone.config.vision.layers}"
    return {"role map": shown, "layers": layers, "means of": count(len(images), "image")}
