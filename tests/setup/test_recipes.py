"""What open keys become: the recipe of the method, the protocol, the data set and the shots; what is given stays."""

import pytest

from dear_jax import main
from dear_jax.data.datasets import DATASETS
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserError
from dear_jax.setup import checks, methods, recipes, values
from dear_jax.setup.plans import train
from tests.repository import REPOSITORY


def parse(*flags, protocol="base2new", dataset="world_compositions"):
    config, _, _ = main.parse([f"--config={REPOSITORY / 'configs' / protocol}.py:{dataset}", *flags])
    return config


def resolved(*flags, **of):
    return recipes.resolve(parse(*flags, **of))


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_recipe_sets_keys_that_are_open_to_values_in_their_range(name, protocol):
    for dataset in ("imagenet", "eurosat", "dtd", "fgvc_aircraft", "world_compositions"):
        for shots in (1, 4, 16):
            recipe = recipes.of(name, protocol, dataset, shots)
            recipe.pop(recipes.REMARK, None)
            plain = values.flat_values(parse(protocol=protocol, dataset=dataset))
            assert all(plain[key] is None for key in recipe)
            flags = (f"--config.method={name}", f"--config.data.shots={shots}")
            config = resolved(*flags, protocol=protocol, dataset=dataset)
            flat = values.flat_values(config)
            assert {key: flat[key] for key in recipe} == recipe
            checks.check(config, trains=True)
    assert DATASETS.keys() >= {"imagenet", "eurosat", "dtd", "fgvc_aircraft"}


def test_what_is_given_stays():
    given = ("--config.train.epochs=3", "--config.mmrl.reg=2", "--config.data.flip=false")
    config = resolved("--config.method=mmrl", *given)
    assert (config.train.epochs, config.mmrl.reg, config.data.flip) == (3, 2.0, False)
    assert config.optimizer.learning_rate == 1e-3
    assert recipes.resolve(config) == config


def test_the_dry_run_and_the_workdir_have_what_counts():
    config = parse("--config.method=coop")
    assert config.train.epochs is None
    plan = train.make_plan(config)
    assert plan.schedule.epochs == plan.config.values["train"]["epochs"] == 200
    assert plan.schedule.optimizer.name == plan.config.values["optimizer"]["name"] == "sgd"


def test_a_share_of_a_recipe_is_rounded_up_and_what_is_given_counts_whole():
    assert resolved("--config.method=coop", "--config.train.share=0.1").train.epochs == 20
    assert resolved("--config.method=maple", "--config.train.share=0.1").train.epochs == 1
    assert resolved("--config.method=coop", "--config.train.share=0.1", "--config.train.epochs=7").train.epochs == 7
    lora = resolved("--config.method=clip_lora", "--config.train.share=0.1", protocol="few_shot")
    assert lora.train.steps == 800
    source = resolved("--config.method=promptsrc", "--config.train.share=0.5").promptsrc
    assert (source.average_mean, source.average_std) == (7.5, 0.5)
    assert resolved("--config.method=lpp", "--config.train.share=0.1", protocol="few_shot").train.epochs == 0


def test_a_training_that_is_all_warm_up_is_called_a_trial():
    short = resolved("--config.train.share=0.05")
    plan = train.make_plan(short)
    assert plan.trial.startswith(
        "A trial: the one epoch is warm-up, at the learning rate 1e-05 instead of 0.001, so that next to nothing is"
    )
    assert "the attribute paths of DeAR" in plan.trial
    flags = ("--config.train.epochs=2", "--config.optimizer.warmup_epochs=3")
    assert "all 2 epochs are" in recipes.trial(resolved(*flags))
    for flags in ([], ["--config.train.epochs=2"], ["--config.train.steps=9"], ["--config.method=lpp"]):
        assert recipes.trial(resolved(*flags, protocol="few_shot")) == ""
    assert recipes.trial(resolved(protocol="cross_dataset")) == ""  # one epoch, without a warm-up


def test_an_unknown_method_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"config.method is 'mmlr', expected one of dear, mmrl, .*The nearest is mmrl"):
        resolved("--config.method=mmlr")


def test_a_key_of_another_method_in_variants_is_refused():
    config = resolved("--config.method=coop", "--config.variants=a: mmrl.reg=3")
    with pytest.raises(UserError, match=r"mmrl.reg is a key of another method, and config.method is coop"):
        checks.check(config, trains=True)
    with pytest.raises(UserError, match=r"config.mmrl.reg is a key of the method mmrl, and config.method is coop"):
        parse("--config.method=coop", "--config.mmrl.reg=3")
    with pytest.raises(UserError, match=r"config.dear.mask.pattern is a key of the method dear"):
        parse("--config.method=coop", "--config.mask.pattern=open")
