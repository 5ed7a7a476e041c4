"""What a job learns from and is measured on: classes with their prompts, and images."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from dear_jax.data.image_dataset import ImageSplit

# How many validation images: all that there are; as many of each class as training images; CoOp's draw, at most four.
WHOLE, SHOTS, FEW = "whole", "shots", "few"


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """Classes that are told apart from each other, and their test images."""

    class_names: tuple[str, ...]
    dataset: str
    template: str  # of the prompts, with one {} for the class name
    ensemble: tuple[str, ...]  # the templates over which plain CLIP takes the mean; of one: that one
    prompts: tuple[str, ...]  # one per class
    tokenize: Callable[[str], np.ndarray]  # the classes under any template: int32 [C, T], cut to the longest prompt
    test: ImageSplit

    @functools.cached_property
    def token_ids(self) -> np.ndarray:
        """Of the prompts, int32 [C, T]."""
        return self.tokenize(self.template)


@dataclasses.dataclass(frozen=True)
class Task:
    """What a training run learns from and is measured on."""

    train: tuple[ImageSplit, ...]  # one few-shot draw per seed
    classes: dict[str, ClassSet]  # the first is the one trained on
    data: dict[str, Any]  # where images, names and splits come from, for results.json
    batch_size: int  # images per seed and step: the plan's, or all images where there are fewer, as in Dassl
    # Given WHOLE, SHOTS or FEW, of each seed; empty ones where there are none. No test image is among them.
    validation: Callable[[str], tuple[ImageSplit, ...]]

    @property
    def trained_on(self) -> ClassSet:
        """The classes of the training images."""
        return next(iter(self.classes.values()))
