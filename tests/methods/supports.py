"""Made-up features of images and classes, which methods are fitted to."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from dear_jax.clip.split import Frozen, Prompts, Seen
from dear_jax.methods.contract import Method, Support

CLASSES, SHOTS, WIDTH = 5, 4, 16
PARAMS = {"logit_scale": jnp.log(jnp.float32(100))}


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def make(seed: int = 0, validation: int = 6, noise: float = 1.2) -> Support:
    """Images of each class around its own centre, which its name's features are not far from."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(CLASSES, WIDTH))

    def images(count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(CLASSES, dtype=np.int32), count)
        rows = centres[labels] + noise * random.normal(size=(len(labels), WIDTH))
        return (scale * rows).astype(np.float32), labels

    text = unit(centres + random.normal(size=centres.shape)).astype(np.float32)
    return Support(*images(SHOTS, 3.0), *images(validation, 2.0), text)


def without_validation(support: Support) -> Support:
    return support._replace(val_features=support.val_features[:0], val_labels=support.val_labels[:0])


def logits(method: Method, learned, settings, support: Support) -> np.ndarray:
    """Of the validation images."""
    frozen = Frozen(PARAMS, Prompts(None, None, None, jnp.asarray(support.text), None))
    features = jnp.asarray(unit(support.val_features))
    learned = {name: jnp.asarray(leaf) for name, leaf in learned.items()}
    classes = method.classes(learned, settings, frozen)
    found = method.logits(learned, settings, PARAMS, classes, Seen(features[:, None], features))
    return np.asarray(found[:, 0])


def settings_of(entry, **keys):
    """Those of some options of a row, on top of ImageNet's recipe."""
    options = entry.Options()
    name = entry.__name__.rsplit(".", 1)[-1]
    recipe = entry.recipe("few_shot", "imagenet", SHOTS)
    own = {key.removeprefix(f"{name}."): value for key, value in recipe.items() if key.startswith(f"{name}.")}
    return entry.settings(dataclasses.replace(options, **(own | keys)), None, None)
