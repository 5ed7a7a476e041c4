"""Every key has a kind and a range, whatever its value: what is out of it is named, and nothing is built from it."""

import math

import pytest
from ml_collections import FieldReference

from dear_jax import main
from dear_jax.errors import UserError
from dear_jax.setup import config_files, keys, ranges, values
from dear_jax.setup.plans import train
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"
DEFAULTS = values.flatten(config_files.load(CONFIG.partition("=")[2]))


def parse(*flags):
    return main.parse([CONFIG, *flags])[0]


def test_the_table_names_keys_that_there_are():
    of_pretraining = values.flatten(config_files.load("pretrain_tiny")).keys()
    assert {*ranges.RANGES, *ranges.CHOICES, *ranges.PATHS, *keys.ITEMS} <= DEFAULTS.keys() | of_pretraining
    several = {key for key, default in DEFAULTS.items() if isinstance(default, tuple)}
    several |= {k for k, d in DEFAULTS.items() if isinstance(d, FieldReference) and d.get_type() is tuple}
    assert several == keys.ITEMS.keys()  # an empty default does not say what its items are
    assert not ranges.problems(parse())


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("compute.mesh=1,1", (1, 1)),
        ("compute.mesh=(2, 4)", (2, 4)),
        ("compute.mesh=", ()),
        ("seeds=", ()),
        ("select.shares=1,0.5", (1.0, 0.5)),
        ("eval.rules=0,0.9", (0.0, 0.9)),
        ("eval.rules=equal,0.9", ("equal", 0.9)),
        ("eval.datasets=1,2", ("1", "2")),
        ("data.crop_scale=1,1", (1.0, 1.0)),
        ("roles.attributes=3", ("3",)),
    ],
)
def test_the_type_of_a_flag_is_declared(flag, value):
    key, _, _ = flag.partition("=")
    found = values.flat_values(parse(f"--config.{flag}"))[key]
    assert found == value
    assert list(map(type, found)) == list(map(type, value))


@pytest.mark.parametrize("flag", ["compute.mesh=a,1", "compute.mesh=1.5,2", "seeds=1,x", "select.shares=half"])
def test_items_of_another_type_are_refused(flag):
    with pytest.raises(UserError, match=r"expected (int|float), found"):
        parse(f"--config.{flag}")


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("train.batch_size=0", "1 or more"),
        ("train.batch_size=99999999999", "2,147,483,647 at most"),
        ("train.epochs=9223372036854775808", "0 to 1,000,000"),
        ("train.share=inf", "a number in (0, 1000]"),
        ("train.share=nan", "a number in (0, 1000]"),
        ("compute.dtype=float8", "one of float32, bfloat16"),
        ("compute.mesh=1,99999999999", "2,147,483,647 at most"),
        ("data.cache_gb=nan", "a number in [0, 1e+06]"),
        ("data.cache_gb=1e308", "a number in [0, 1e+06]"),
        ("data.workers=100000", f"0 (threads of this process) to {ranges.WORKERS}"),
        ("roles.seed=-1", "an integer of 0 to 2^32 - 1"),
        ("retrieve.seed=-1", "an integer of 0 to 2^32 - 1"),
        ("data.split_seed=4294967296", "an integer of 0 to 2^32 - 1"),
        ("run_seed=-3", "an integer of 0 to 2^32 - 1"),
        ("dear.mask.seed=-1", "an integer of 0 to 2^32 - 1"),
        ("dear.tokens.text_count=99999999", "1 to 1,000"),
        ("dear.loss.reg=inf", "a finite number, 1e+30 at most"),
        ("roles.rank=9999999999", "2,147,483,647 at most"),
        (f"data.root={'a' * 256}", "a path of names that have 255 bytes at most"),
        (f"data.root={'é' * 128}", "a path of names that have 255 bytes at most"),
        (f"dear.mask.file={'a/' * 3000}", "a path of names that have 255 bytes at most"),
        ("optimizer.momentum=1", "a number in [0, 1)"),
        ("optimizer.epsilon=0", "a positive number"),
    ],
)
def test_what_is_out_of_range_is_named_before_anything_is_built(flag, expected):
    key, _, _ = flag.partition("=")
    config = parse(f"--config.{flag}")
    assert ranges.problems(config)[key] == expected
    with pytest.raises(UserError) as error:
        train.make_plan(config)
    assert f"config.{key} is " in str(error.value)
    assert f"expected {expected}" in str(error.value)
    assert len(str(error.value)) < 400


def test_a_seed_of_a_variant_has_the_same_range():
    with pytest.raises(UserError, match=r"config\.dear\.mask\.seed is -1, expected an integer of 0"):
        train.make_plan(parse("--config.variants=a: mask.seed=-1 | b: mask.seed=1"))


@pytest.mark.parametrize(
    ("of", "text", "inside", "outside"),
    [
        (ranges.Range(1), "1 or more", (1, 10**9), (0, -1, math.nan)),
        (ranges.Range(0, open=True), "a positive number", (1e-9, 1), (0, -1.0, math.nan)),
        (ranges.Range(0.0, 1.0, half_open=True), "a number in [0, 1)", (0, 0.5), (1, math.nan, math.inf)),
        (ranges.Range(2, 5, " (so)"), "2 (so) to 5", (2, 5), (1, 6)),
    ],
)
def test_a_range(of, text, inside, outside):
    assert str(of) == text
    assert all(map(of.holds, inside))
    assert not any(map(of.holds, outside))


def test_a_long_value_is_shown_by_its_beginning(capsys):
    assert main.main([CONFIG, f"--config.image_size={'1' * 9000}"]) == 2
    assert len(capsys.readouterr().err) < 600
