"""dear_jax: DeAR (arXiv 2603.01111) in JAX and Flax: adapt CLIP without losing what CLIP knew.

Dimensions, the same letters everywhere (layers are counted from 1, as in the paper):

    B images of a batch         C classes (prompts)          L layers of a tower
    H heads of a layer          T tokens of a sequence       P patches of an image
    K attribute tokens          D width of a tower           d width of the joint space
    S seeds of a run            V variants of a run          J first layer that meets the learned tokens
"""

__version__ = "0.1.0"
