"""Few-shot classification: train and test on all classes, with 1, 2, 4, 8 or 16 shots (methods/dear section 5).

    python -m dear_jax.main --config=configs/few_shot.py --config.data.shots=4                     # embedded
    python -m dear_jax.main --config=configs/few_shot.py:oxford_pets --config.data.root=DATA --config.data.shots=4
    python -m dear_jax.main --config=configs/few_shot.py:folder --config.data.root=MY_IMAGES      # a folder per class

DeAR's recipe is 50 epochs of batch 32. `python -m experiments.reproduce --protocol=few_shot` runs all five numbers of
shots. Where there are fewer images than a batch, all of them make one batch, as in Dassl.
"""

from ml_collections import ConfigDict

from configs import base


def get_config(dataset: str = "world_compositions") -> ConfigDict:
    """The defaults of `configs/base.py`; the argument after the colon names a row of `datasets.DATASETS`."""
    config = base.get_config()
    config.protocol = "few_shot"
    return base.choose_dataset(config, dataset)
