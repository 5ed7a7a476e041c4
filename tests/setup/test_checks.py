"""Values outside their range: each is named with what is expected, all of them at once."""

import pytest

from dear_jax import jobs, main
from dear_jax.errors import UserError
from tests.repository import REPOSITORY


def make_plan(name: str, *flags: str):
    """The plan of a job, as `main` asks for it."""
    config, _, _ = main.parse([f"--config={REPOSITORY / 'configs' / f'{name}.py'}", *flags])
    return jobs.find(config.job).load().make_plan(config)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.roles.weight=votes"], "config.roles.weight is 'votes', expected one of count, variance"),
        (["--config.dear.mask.pattern=rows"], "config.dear.mask.pattern is 'rows', expected one of roles, permuted,"),
        (["--config.seeds=1,1", "--config.dear.tokens.beta=2"], "config.seeds is (1, 1)"),
        (
            ["--config.seeds=1,1", "--config.dear.tokens.beta=2"],
            "config.dear.tokens.beta is 2.0, expected a number in [0, 1]",
        ),
        (["--config.data.shots=0"], "config.data.shots is 0, expected 1 or more"),
        (["--config.train.batch_size=0"], "config.train.batch_size is 0, expected 1 or more"),
        (["--config.dear.mask.seed=-1"], "config.dear.mask.seed is -1, expected an integer of 0 to 2^32 - 1"),
        (
            ["--config.dear.mask.file=a.npy", "--config.dear.mask.set=5.0=mixed"],
            "expected none beside config.dear.mask.file",
        ),
        (["--config.data.crop_scale=0.9,0.5"], "0 < least <= greatest <= 1"),
        (["--config.compute.dtype=float8"], "config.compute.dtype is 'float8', expected one of float32, bfloat16"),
        (["--config.protocol=base"], "config.protocol is 'base', expected one of base2new, few_shot"),
        (["--config.eval.new_classes=best"], "expected learned, class_only, equal or a number in [0, 1]"),
        (
            ["--config.dear.tokens.init_seed=-1"],
            "config.dear.tokens.init_seed is -1, expected an integer of 0 to 2^32 - 1",
        ),
        (
            ["--config.data.source=drive"],
            "config.data.source is 'drive', expected one of auto, coop, tfds, folder",
        ),
        (["--config.data.cache_gb=-1"], "config.data.cache_gb is -1.0, expected a number in [0, 1e+06]"),
        (["--config.method=deer"], "config.method is 'deer', expected one of dear, mmrl"),
        (["--config.variants=a: tokens.beta=2"], "config.dear.tokens.beta is 2.0, expected a number in [0, 1]"),
    ],
)
def test_of_a_training(flags, message):
    with pytest.raises(UserError) as error:
        make_plan("base2new", *flags)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("steps=50", "config.pretrain.warmup_steps is 100, expected less than its 50 steps"),
        ("steps=0", "config.pretrain.steps is 0, expected 1 or more"),
        ("vision_heads=7", "config.pretrain.vision_width is 128, expected a multiple of vision_heads, 7"),
        ("patch_size=7", "config.pretrain.patch_size is 7, expected a divisor of 48 pixels"),
        ("dense_layer=8", "config.pretrain.dense_layer is 8, expected one of 7 layers"),
        ("learning_rate=nan", "config.pretrain.learning_rate is nan, expected a positive number"),
    ],
)
def test_of_a_pretraining(flag, message):
    make_plan("pretrain_tiny")
    with pytest.raises(UserError) as error:
        make_plan("pretrain_tiny", f"--config.pretrain.{flag}")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.roles.weight=votes", "--config.roles.low=2"], "config.roles.low is 2.0, expected 0 to"),
        (["--config.roles.rank=8"], "descriptions is 20, expected 1 to config.roles.rank, which is 8"),
        (["--config.roles.top_images=0"], "config.roles.top_images is 0, expected 1 to 100"),
        (["--config.roles.attributes=color,color"], "('color', 'color'), expected one or more different names"),
    ],
)
def test_of_an_analysis(flags, message):
    with pytest.raises(UserError) as error:
        make_plan("find_roles", *flags)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["find_roles", "predict", "explain", "retrieve"])
def test_jobs_that_train_nothing_ask_for_no_key_of_a_method(name):
    make_plan(name, "--config.dear.tokens.text_count=0", "--config.dear.tokens.beta=3", "--config.variants=nothing")


def test_an_evaluation_checks_its_rule_and_its_protocol():
    with pytest.raises(UserError, match=r"or a number in \[0, 1\]"):
        make_plan("cross_dataset", "--config.job=evaluate", "--config.eval.new_classes=1.5")
    with pytest.raises(UserError, match=r"config\.protocol is 'base'"):
        make_plan("cross_dataset", "--config.job=evaluate", "--config.protocol=base")
