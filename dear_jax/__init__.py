"""dear_jax: DeAR (arXiv 2603.01111) in JAX and Flax: adapt CLIP without losing what CLIP knew.

`train(config("base2new"))` trains as `python -m dear_jax.main --config=base2new` does, `Classifier` classifies images
with what a run has learned.

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

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dear_jax.errors import UserError
    from dear_jax.evaluation.classifier import Classifier
    from dear_jax.evaluation.results import Results
    from dear_jax.python import config, evaluate, run, train

__version__ = "0.1.0"
__all__ = ["Classifier", "Results", "UserError", "__version__", "config", "evaluate", "run", "train"]

_PLACES = {
    "Classifier": "dear_jax.evaluation.classifier",
    "Results": "dear_jax.evaluation.results",
    "UserError": "dear_jax.errors",
    **dict.fromkeys(("config", "evaluate", "run", "train"), "dear_jax.python"),
}


def __getattr__(name: str) -> object:
    """Import the public names on their first use: importing the package imports no JAX."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in ("Classifier", "Results"):
        from dear_jax import session

        session.quiet()
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
