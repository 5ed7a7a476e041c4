"""Retrieve images by attribute: rank a gallery by the features of color, shape, ... and by the class feature.

    python -m dear_jax.main --config=configs/retrieve.py --config.run=WORKDIR                      # the embedded world
    python -m dear_jax.main --config=configs/retrieve.py:DATASET --config.data.root=DATA --config.run=WORKDIR
    python -m dear_jax.main --config=configs/retrieve.py --config.run=WORKDIR --config.images='photos/**/*.jpg'

Queries are drawn from the test images (or from yours), and the others are the gallery. The workdir then holds contact
sheets, `rankings.csv`, and `retrieval.md` with precision and mAP for what is known of the images.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(dataset: str = "world_scenes") -> ConfigDict:
    """The defaults of `configs/base.py`; the argument after the colon names a row of `datasets.DATASETS`."""
    config = base.get_config()
    config.job = "retrieve"
    return base.choose_dataset(config, dataset)
