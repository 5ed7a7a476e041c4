"""What a head causes: exchanged between two images, it moves what CLIP says of an attribute or does not.

Comes in: encoder outputs, the heads' direct contributions to them, and phrases of each attribute's values. All effects
are direct ones, as in `decompose.ablate`: what later layers made of a head stays.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from dear_jax.clip import vision
from dear_jax.clip.checkpoints.weights import Backbone
from dear_jax.data import pipeline
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.files import progress_bar
from dear_jax.roles import bank as banks
from dear_jax.roles import sentences

PAIRS = 1000  # at most, of images


class Interchange(NamedTuple):
    """What happens to the predicted value of each attribute when one head's contribution is another image's."""

    attributes: tuple[str, ...]
    moved: Float[np.ndarray, "heads attributes"]  # share of pairs in which the predicted value becomes another
    # Share of the way from the image's value to the other's, in logits, that this head takes alone: over all heads,
    # MLPs and what enters layer J it adds up to 1. Of pairs with different values.
    carried: Float[np.ndarray, "heads attributes"]
    pairs: int

    def shares(self) -> Float[np.ndarray, "heads attributes"]:
        """How what a head carries is spread over the attributes; evenly, where it carries none."""
        carried = np.maximum(self.carried, 0)
        total = carried.sum(1, keepdims=True)
        return np.where(total > 0, carried / np.where(total > 0, total, 1), 1 / len(self.attributes))


def values_of(backbone: Backbone, anchors: banks.Anchors) -> dict[str, Float[np.ndarray, "values d"]]:
    """Unit text features of each attribute's phrases, of those that have at least two."""
    return {
        name: sentences.encode_texts(backbone, phrases) for name, phrases in anchors.items() if len(set(phrases)) > 1
    }


def outputs(backbone: Backbone, images: ImageSplit, batch_size: int) -> Float[np.ndarray, "images d"]:
    """What the encoder makes of images, not normalised."""
    config, params = backbone.config, jax.device_put(backbone.params)
    encode = jax.jit(lambda params, images: vision.encode(params, config, vision.normalize(images, config)))
    batches = progress_bar.bar(
        pipeline.eval_batches(images, batch_size, config.image_size),
        desc="Exchanging",
        total=-(-len(images) // batch_size),
        unit="batch",
        delay=progress_bar.DELAY,
    )
    return np.concatenate([np.asarray(encode(params, batch["image"]))[batch["valid"]] for batch in batches])


def interchange(
    found: Float[np.ndarray, "images d"],
    contributions: Float[np.ndarray, "images heads d"],
    values: Mapping[str, Float[np.ndarray, "values d"]],
    seed: int = 0,
) -> Interchange:
    """Give each image a head's contribution to another image, and ask for each attribute's value again.

    With c the head's contribution to image i and to its partner j, e the encoder's output, and t the text features of
    the values that are predicted for them, a pair with two different values gives the head

        (c_j - c_i) . (t_j - t_i)   of   (e_j - e_i) . (t_j - t_i)

    and `carried` is the sum of the one over pairs by that of the other.

    Args:
        found: the encoder's outputs, of two images or more.
        contributions: of each head, to the same images.
        values: unit text features of each attribute's values.
        seed: of who is paired with whom.
    """
    order = np.random.default_rng(seed).permutation(len(found))
    partner = np.empty_like(order)
    partner[order] = np.roll(order, 1)  # nobody is its own
    contributions = np.asarray(contributions, np.float32)
    change, whole = contributions[partner] - contributions, found[partner] - found
    moved, carried = [], []
    for features in values.values():
        logits = found @ features.T
        value = logits.argmax(1)
        after = logits[:, None] + change @ features.T
        moved.append((after.argmax(-1) != value[:, None]).mean(0))
        way = features[value[partner]] - features[value]  # zero where the values are the same
        total = float((whole * way).sum())
        carried.append(np.einsum("phd,pd->h", change, way) / (total or 1.0))
    return Interchange(tuple(values), np.stack(moved, 1), np.stack(carried, 1), len(found))
