"""dear_jax: DeAR (arXiv 2603.01111) in JAX and Flax: adapt CLIP without losing what CLIP knew.

`from dear_jax import Classifier` classifies images with what a run has learned; runs are started by `dear_jax.main`.

Dimensions, the same letters everywhere (layers are counted from 1, as in the paper):

    B images of a batch         C classes (prompts)          L layers of a tower
    H heads of a layer          T tokens of a sequence       P patches of an image
    K attribute tokens          D width of a tower           d width of the joint space
    N paths (1 + K)             Dh width of a head           Q patches and the class token (1 + P)
    S seeds of a run            V variants of a run          J first layer that meets the learned tokens
    F ways to fuse the paths    h, w pixels of an image      n layers J..L (L - J + 1)

and of packed prompts (`clip/packing.py`):

    G chunks of prompts         E prompts of a chunk         Z positions that all prompts share
    M sequences of a chunk      W rows of a sequence         R rows of a chunk (M * W)

In annotations every dimension is a name, never an expression, and the tests check them. A word is a size that only
its own place knows ("images", "heads clusters").
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dear_jax.evaluation.classifier import Classifier

__version__ = "0.1.0"
__all__ = ["Classifier", "__version__"]


def __getattr__(name: str) -> object:
    """Import the public names on their first use: importing the package imports no JAX."""
    if name == "Classifier":
        from dear_jax.evaluation.classifier import Classifier

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
