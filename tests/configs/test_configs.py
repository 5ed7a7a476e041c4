"""Every config file gives a plan for each data set that it takes; its argument alone chooses backbone and recipe."""

import pytest

from configs import base, cross_dataset, domain_generalization
from dear_jax import jobs
from dear_jax.data.datasets import DATASETS, find_row
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.data.world import tasks
from dear_jax.errors import UserError
from dear_jax.setup import config_files, recipes, values
from tests.repository import REPOSITORY

TRAINED = [name for name, row in DATASETS.items() if name in tasks.TASKS or row.images[0] or not row.folder]


def load(name: str, *argument: str):
    return config_files.load(":".join([str(REPOSITORY / "configs" / f"{name}.py"), *argument]))


def differences(config) -> dict:
    defaults = values.flat_values(base.get_config())
    return {key: value for key, value in values.flat_values(config).items() if value != defaults[key]}


def test_each_protocol_has_a_config_file_and_each_file_a_job():
    names = {path.stem for path in (REPOSITORY / "configs").glob("*.py")}
    protocols = {name: load(name).protocol for name in names if load(name).job == "train"}
    assert protocols == {name: name for name in PROTOCOLS} | {"base": "base2new"}
    others = {"find_roles", "predict", "explain", "retrieve", "push", "pretrain"}
    assert {load(name).job for name in names - protocols.keys()} == others


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.py")), ids=lambda path: path.stem)
def test_without_an_argument_a_file_is_of_the_embedded_world_and_gives_a_plan(path):
    config = config_files.load(str(path))
    assert config.is_locked
    assert config.data.dataset in tasks.TASKS
    assert config.backbone == "embedded"
    needed = {"run": "WORKDIR", "repo": "USER/NAME"} if config.job == "push" else {}
    jobs.find(config.job).load().make_plan(values.set_all(config, needed))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", TRAINED)
def test_an_argument_chooses_the_data_set_its_backbone_and_its_recipe(protocol, name):
    config, plain = load(protocol, name), load(protocol)
    plan = jobs.find(config.job).load().make_plan(config)
    assert plan.data.protocol is PROTOCOLS[protocol]
    assert plan.data.dataset == name
    published = name not in tasks.TASKS
    assert plan.backbone.name == ("openai/clip-vit-base-patch16" if published else "embedded")
    changed = {"data.dataset": name, "backbone": config.backbone, "eval.datasets": config.eval.datasets}
    expected = values.flat_values(plain) | changed
    assert values.flat_values(config) == expected

    targets = plan.data.targets
    assert bool(targets) == plan.data.protocol.transfers
    assert len(set(targets)) == len(targets)
    assert name not in targets
    for target in targets:  # each of them exists, is of the same kind, and has test images
        assert (target in tasks.TASKS) != published
        assert target in tasks.TASKS or find_row(target).images[2]


def test_imagenet_takes_its_own_recipe_in_base_to_new_alone():
    def recipe(protocol, dataset):
        config = recipes.resolve(load(protocol, dataset))
        return config.train.epochs, config.train.batch_size, config.optimizer.warmup_epochs

    assert recipe("base2new", "imagenet") == (5, 32, 1)
    assert recipe("base2new", "dtd") == recipe("base2new", "world_objects") == (10, 4, 1)
    assert recipe("few_shot", "imagenet") == recipe("few_shot", "dtd") == (50, 32, 1)
    assert recipe("cross_dataset", "imagenet") == recipe("domain_generalization", "dtd") == (1, 32, 0)
    assert differences(load("base2new")) == {}


@pytest.mark.parametrize("name", ["imagenet", "world_compositions"])
def test_one_training_serves_both_transfers(name):
    """The two configs differ in what they evaluate on alone."""
    one, other = cross_dataset.get_config(name), domain_generalization.get_config(name)
    assert one.eval.datasets != other.eval.datasets
    with other.unlocked():
        other.protocol, other.eval.datasets = one.protocol, one.eval.datasets
    assert one == other


def test_targets_are_the_papers():
    targets = cross_dataset.get_config("imagenet").eval.datasets
    assert len(targets) == 10
    assert {*targets, "imagenet"} == {name for name in TRAINED if find_row(name).layout}
    variants = domain_generalization.get_config("imagenet").eval.datasets
    assert variants == tuple(name for name, row in DATASETS.items() if row.layout and not row.images[0])


def test_another_source_has_all_others_as_targets():
    targets = cross_dataset.get_config("dtd").eval.datasets
    assert len(targets) == 10
    assert "imagenet" in targets
    assert "dtd" not in targets


def test_domains_of_the_embedded_world_have_the_classes_of_their_source():
    source = tasks.TASKS["world_compositions"]
    for name in domain_generalization.get_config().eval.datasets:
        task = tasks.TASKS[name]
        assert tasks.draw_classes(task) == tasks.draw_classes(source)
        assert task.shift != source.shift


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match="The nearest name is 'oxford_pets'"):
        load("base2new", "oxford_pet")
