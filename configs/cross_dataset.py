r"""Cross-dataset transfer: train on all classes of one data set, test on others (methods/dear section 5).

    python -m dear_jax.main --config=configs/cross_dataset.py                                      # embedded
    python -m dear_jax.main --config=configs/cross_dataset.py:imagenet --config.data.root=DATA     # the paper's

DeAR's recipe is one epoch of batch 32, without warm-up. The very same training serves domain generalization
(`configs/domain_generalization.py`), which then needs no training of its own:

    python -m dear_jax.main --config=configs/domain_generalization.py:imagenet --config.data.root=DATA \
        --config.job=evaluate --config.run=WORKDIR_OF_THIS_RUN
"""

from ml_collections import ConfigDict

from configs import base
from dear_jax.data.world import tasks

TARGETS = (
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)


def get_config(dataset: str = "world_compositions") -> ConfigDict:
    """The defaults of `configs/base.py`; the argument after the colon names the data set that is trained on."""
    config = base.get_config()
    config.protocol = "cross_dataset"
    targets = tasks.OTHER_TASKS if dataset in tasks.TASKS else ("imagenet", *TARGETS)
    config.eval.datasets = tuple(name for name in targets if name != dataset)
    return base.choose_dataset(config, dataset)
