"""The configs of the protocols beside base-to-new: data sets, targets, recipes, one training for two protocols."""

import pytest

from configs import cross_dataset, domain_generalization, few_shot
from dear_jax.data.datasets import DATASETS


def test_few_shot():
    config = few_shot.get_config("dtd")
    assert (config.protocol, config.data.dataset) == ("few_shot", "dtd")
    assert (config.train.epochs, config.train.batch_size, config.data.shots) == (50, 32, 16)
    assert config.backbone == "openai/clip-vit-base-patch16"
    assert few_shot.get_config().backbone == "embedded"


@pytest.mark.parametrize("name", ["imagenet", "world_compositions"])
def test_one_training_serves_both_transfers(name):
    """The two configs differ in what they evaluate on alone."""
    one, other = cross_dataset.get_config(name), domain_generalization.get_config(name)
    assert one.eval.datasets != other.eval.datasets
    with other.unlocked():
        other.protocol, other.eval.datasets = one.protocol, one.eval.datasets
    assert one == other


def test_targets_are_the_papers():
    config = cross_dataset.get_config("imagenet")
    assert len(config.eval.datasets) == 10
    assert "imagenet" not in config.eval.datasets
    assert (config.train.epochs, config.train.batch_size, config.optimizer.warmup_epochs) == (1, 32, 0)
    variants = domain_generalization.get_config("imagenet").eval.datasets
    assert variants == ("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r")
    assert {*config.eval.datasets, *variants} <= DATASETS.keys()


def test_another_source_has_all_others_as_targets():
    targets = cross_dataset.get_config("dtd").eval.datasets
    assert len(targets) == 10
    assert "imagenet" in targets
    assert "dtd" not in targets


def test_embedded_counterparts():
    assert "world_objects" in cross_dataset.get_config().eval.datasets
    assert {
        *domain_generalization.get_config().eval.datasets,
        *cross_dataset.get_config().eval.datasets,
    } <= DATASETS.keys()
