"""Keys that were called otherwise before: on the command line, in variants, and in the workdirs of earlier versions."""

import json

import pytest

from dear_jax import main
from dear_jax.errors import UserError
from dear_jax.files.workdir import Workdir
from dear_jax.setup import keys, recipes, values
from dear_jax.setup.plans import train
from tests.repository import REPOSITORY

CONFIG = f"--config={REPOSITORY / 'configs' / 'base2new.py'}"


def parse(*flags):
    config, _, _ = main.parse([CONFIG, *flags])
    return config


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [
        ("mask.pattern", "dear.mask.pattern", "open"),
        ("tokens.beta", "dear.tokens.beta", "0.5"),
        ("tokens.shared_projection", "dear.tokens.shared_projection", "false"),
        ("loss.reg", "dear.loss.reg", "3"),
        ("fusion.class_start", "dear.fusion.class_start", "0.7"),
        ("fusion.new_classes", "eval.new_classes", "equal"),
    ],
)
def test_an_earlier_name_sets_the_same_key(old, new, value):
    flat = values.flat_values(parse(f"--config.{old}={value}"))
    assert flat == values.flat_values(parse(f"--config.{new}={value}"))
    assert flat[new] != values.flat_values(parse())[new]
    assert old not in flat


@pytest.mark.parametrize("old_last", [False, True])
def test_of_two_names_todays_wins(old_last):
    flags = ["--config.dear.mask.pattern=isolated", "--config.mask.pattern=open"]
    assert parse(*(flags if old_last else flags[::-1])).dear.mask.pattern == "isolated"


def test_names_lead_forth_and_back():
    assert list(keys.earlier_names("dear.mask.pattern")) == ["mask.pattern"]
    assert list(keys.earlier_names("eval.new_classes")) == ["fusion.new_classes"]
    assert list(keys.earlier_names("seeds")) == []
    flat = values.flatten(parse())
    for key in flat:
        for old in keys.earlier_names(key):
            assert old not in flat
            assert keys.current_name(old) == key
        assert keys.current_name(key) == key


def test_every_key_that_may_change_is_one_of_the_config():
    assert values.flatten(parse()).keys() >= keys.FREE


def as_written_before(config) -> dict:
    """The config.json of a version that had no methods."""
    written = json.loads(json.dumps(config.to_dict()))
    dear, rule = written.pop("dear"), written["eval"].pop("new_classes")
    del written["method"], written["train"]["steps"], written["roles"]["first_layer"], written["roles"]["attributes"]
    return written | dear | {"fusion": dear["fusion"] | {"new_classes": rule}}


@pytest.fixture
def begun(tmp_path):
    """A workdir that such a version began, with a regularization of 2 and the rule `equal`."""
    config = recipes.resolve(parse("--config.dear.loss.reg=2", "--config.eval.new_classes=equal"))
    (tmp_path / "config.json").write_text(json.dumps(as_written_before(config)))
    (tmp_path / "metrics.jsonl").write_text('{"step": 10}\n')
    return tmp_path


def test_a_workdir_of_earlier_keys_goes_on_under_todays(begun):
    config = parse("--config.loss.reg=2", "--config.fusion.new_classes=equal", "--config.train.log_every=1")
    with Workdir(begun) as files:
        files.check_config(train.make_plan(config).config)
        files.check_config(train.make_plan(config).config)
        assert files.read_json("config.json") == json.loads(json.dumps(recipes.resolve(config).to_dict()))


def test_a_workdir_of_earlier_keys_and_other_values_is_refused(begun):
    config = parse("--config.dear.loss.reg=2", "--config.dear.tokens.beta=0.5", "--config.seeds=1")
    with Workdir(begun) as files, pytest.raises(UserError) as error:
        files.check_config(train.make_plan(config).config)
    message = str(error.value)
    for text in (
        "dear.tokens.beta was 0.9, now 0.5",
        "eval.new_classes was 'equal', now ''",
        "seeds was [1, 2, 3], now [1]",
    ):
        assert text in message
    assert message.count(" was ") == 3


def test_the_rule_that_was_the_default_is_the_methods_own():
    """Before methods had rules of their own, it was called by its name."""
    written = as_written_before(recipes.resolve(parse("--config.eval.new_classes=learned")))
    assert keys.run_config(recipes.resolve(parse())).upgrade(written)["eval"]["new_classes"] == ""
    today = json.loads(json.dumps(recipes.resolve(parse("--config.eval.new_classes=learned")).to_dict()))
    assert keys.upgrade(today, today)["eval"]["new_classes"] == "learned"
