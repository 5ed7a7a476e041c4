"""What a training has learned, with what it belongs to: what its adapter file holds and an evaluation measures."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data.class_set import Task
from dear_jax.methods.adapter_file import NO_IMAGES, Part, Trained
from dear_jax.methods.contract import Adapter
from dear_jax.setup.plans.select import SelectionPlan
from dear_jax.setup.plans.train import TrainingPlan
from dear_jax.training.program import Program


def collect(
    plan: TrainingPlan | SelectionPlan,
    backbone: Backbone,
    task: Task,
    programs: Sequence[Program],
    learned: Sequence[Adapter],
    role_maps: Sequence[dict[str, Any]] = (),
    images: UInt8[np.ndarray, "N mark"] = NO_IMAGES,
) -> Trained:
    """The adapters of all programs, leaves `[S, V, ...]`, as NumPy arrays with what they belong to.

    Args:
        plan: of the job that trained them.
        backbone: which they adapt.
        task: which they were trained on.
        programs: that trained them.
        learned: of each program.
        role_maps: of which the masks were made (`RoleMaps.used`).
        images: marks of the files trained on (`twice.marks`), where the adapters are kept.
    """
    return Trained(
        method=plan.method,
        backbone=backbone.name,
        fingerprint=backbone.fingerprint,
        reading=backbone.reading,
        image_size=plan.backbone.image_size,
        dataset=task.data["name"],
        template=task.trained_on.template,
        ensemble=task.trained_on.ensemble,
        class_names=task.trained_on.class_names,
        other_classes=tuple(name for name in task.data["class_names"] if name not in task.trained_on.class_names),
        images=images,
        role_maps=tuple(role_maps),
        shots=plan.data.shots,
        seeds=plan.data.seeds,
        parts=tuple(
            Part(
                program.method.structure(),
                program.names,
                jax.tree.map(np.asarray, adapter),
                jax.tree.map(np.asarray, program.settings._asdict()),
            )
            for program, adapter in zip(programs, learned, strict=True)
        ),
    )
