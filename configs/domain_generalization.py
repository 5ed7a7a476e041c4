"""Domain generalization: train on all classes of one data set, test on them in other domains (methods/dear section 5).

    python -m dear_jax.main --config=configs/domain_generalization.py                                      # embedded
    python -m dear_jax.main --config=configs/domain_generalization.py:imagenet --config.data.root=DATA     # the paper's

It trains what `configs/cross_dataset.py` trains: with `--config.job=evaluate --config.run=WORKDIR` a finished run of
either is measured here without training. ImageNet-A and -R are classified among their own 200 classes.
"""

from ml_collections import ConfigDict

from configs import cross_dataset
from dear_jax.data.world import tasks

TARGETS = ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")


def get_config(dataset: str = "world_compositions") -> ConfigDict:
    """The config of cross-dataset transfer with other targets."""
    config = cross_dataset.get_config(dataset)
    config.protocol = "domain_generalization"
    targets = tasks.DOMAINS if dataset in tasks.TASKS else TARGETS
    config.eval.datasets = tuple(name for name in targets if name != dataset)
    return config
