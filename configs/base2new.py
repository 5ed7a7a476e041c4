"""Base-to-new generalization: train on the first half of the classes, test on each half (METHOD.md section 5).

python -m dear_jax.main --config=configs/base2new.py
"""

from ml_collections import ConfigDict

from configs import base


def get_config(dataset: str = "world_compositions") -> ConfigDict:
    """The defaults of `configs/base.py`; the argument after the colon names the data set."""
    config = base.get_config()
    config.data.dataset = dataset
    return config
