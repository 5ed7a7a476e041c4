r"""Show where in images CLIP, or what a run has learned, sees a text.

    python -m dear_jax.main --config=configs/explain.py --config.images='photos/*.jpg' --config.text="a red wing"
    python -m dear_jax.main --config=configs/explain.py --config.images='photos/*.jpg' --config.text="a cat|a dog" \
        --config.run=WORKDIR

The first is of plain CLIP (`config.backbone`), the second of each path of the run, of all of them together, and of
zero-shot CLIP beside them. The workdir then holds `explanations.html`, overlays in `maps/`, the parts of each logit in
`explanations.csv` and all maps as arrays in `explanations.npz`.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """The defaults of `configs/base.py`; images and text are flags."""
    config = base.get_config()
    config.job = "explain"
    return config
