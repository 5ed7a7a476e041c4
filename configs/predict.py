r"""Classify images of your own with what a run has learned.

    python -m dear_jax.main --config=configs/predict.py --config.run=WORKDIR --config.images='photos/*.jpg' \
        --config.classes=cat,dog

The workdir then holds `predictions.csv` and `probabilities.csv`. From Python the same is
`from dear_jax import Classifier`.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    """The defaults of `configs/base.py`; images and classes are flags."""
    config = base.get_config()
    config.job = "predict"
    return config
