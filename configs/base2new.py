"""Base-to-new generalization: train on the first half of the classes, test on each half (methods/dear section 5).

    python -m dear_jax.main --config=configs/base2new.py                      # the embedded CLIP and world
    python -m dear_jax.main --config=configs/base2new.py:oxford_pets --config.data.root=DATA

An adapter of all classes, as for images of your own, is made by configs/few_shot.py.

DeAR's recipe is 16 shots, seeds 1 to 3, 10 epochs of batch 4 (ImageNet: 5 epochs of batch 32); that of each method
stands in its file of `dear_jax/setup/methods/`.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(dataset: str = "world_compositions") -> ConfigDict:
    """The defaults of `configs/base.py`; the argument after the colon names a row of `datasets.DATASETS`."""
    return base.choose_dataset(base.get_config(), dataset)
