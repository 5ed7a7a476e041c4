"""What of a written config is not the default, and that the command made of it gives the same config."""

import json
import shlex

import pytest

from dear_jax import main
from dear_jax.setup import config_files, defaults, recipes
from tests.repository import REPOSITORY


@pytest.fixture(autouse=True)
def _from_the_repository(monkeypatch):
    monkeypatch.chdir(REPOSITORY)


def written(*flags: str) -> dict:
    """A config.json."""
    config, _, _ = main.parse(flags)
    return json.loads(json.dumps(recipes.resolve(config).to_dict()))


def test_the_default_run_has_no_setting_of_its_own():
    assert defaults.differences(written("--config=configs/base.py")) == []


def test_what_was_set_is_named_with_its_default():
    found = defaults.differences(
        written("--config=configs/few_shot.py", "--config.train.steps=10", "--config.optimizer.momentum=0.5")
    )
    named = {one.key: (one.value, one.default) for one in found}
    assert named["train.steps"] == (10, 0)
    assert named["optimizer.momentum"] == (0.5, 0.9)
    assert named["protocol"] == ("few_shot", "base2new")
    assert "train.epochs" not in named  # the recipe's own


def test_what_the_recipe_sets_is_no_difference():
    found = defaults.differences(written("--config=configs/base2new.py", "--config.method=clip_lora"))
    assert [one.key for one in found] == ["method"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--config=configs/base2new.py:oxford_pets", "--config.data.root=/a folder/$x"],
        ["--config=configs/few_shot.py", "--config.seeds=4,7", "--config.data.flip=false", "--config.data.shots=1"],
        ["--config=configs/cross_dataset.py", "--config.method=mmrl", "--config.eval.rules=0.5,equal"],
        ["--config=configs/base2new.py", "--config.train.share=0.5", "--config.image_size=128"],
        ["--config=configs/base2new.py", "--config.job=evaluate", "--config.run=some;where"],
    ],
)
def test_the_command_gives_the_same_config(flags):
    config = written(*flags)
    command = shlex.split(defaults.command(defaults.differences(config)))
    assert command[:3] == ["python", "-m", "dear_jax.main"]
    assert written(*command[3:]) == config


def test_without_the_configs_at_hand_nothing_is_known(monkeypatch):
    config = written("--config=configs/base.py")
    monkeypatch.setattr(config_files, "BASE", "no_such_file.py")
    assert defaults.differences(config) is None


def test_older_names_are_todays(monkeypatch):
    config = written("--config=configs/base.py", "--config.dear.mask.pattern=open")
    config["mask"] = config["dear"].pop("mask")
    assert [one.key for one in defaults.differences(config)] == ["dear.mask.pattern"]
