"""What --help says of jobs, configs and keys."""

import re

import pytest

from dear_jax import jobs
from dear_jax.errors import UserError
from dear_jax.setup import config_files, key_help, values
from dear_jax.setup.methods import METHODS
from tests.repository import REPOSITORY


def test_the_overview_names_jobs_methods_configs_and_groups():
    said = key_help.overview(list(jobs.JOBS))
    for name in (*jobs.JOBS, *METHODS, *config_files.names(), "optimizer", "compute"):
        assert name in said, name
    assert max(map(len, said.splitlines())) < 170


def test_its_commands_are_readme_s():
    page = (REPOSITORY / "README.md").read_text()
    for _, command in key_help.COMMANDS:
        first = command.split()[0].partition(":")[0]
        assert first in page
        for flag in re.findall(r"--config\.[\w.]+", command):
            assert flag in page, flag


def test_every_key_has_a_default_and_a_meaning():
    path, config = config_files.base()
    said = dict(key_help.comments(path))
    flat = values.flat_values(config)
    assert not {key for key in flat if not said.get(key)}
    page = key_help.of_keys("all")
    for key, default in flat.items():
        assert f"  --config.{key}={default!r}\n" in page + "\n"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("mask", "--config.dear.mask.pattern='roles'\n      Of a role map: roles | permuted (within each layer)"),
        ("dear.fusion", "config.dear.fusion: Section 4.\n  --config.dear.fusion.class_start=0.9\n      alpha of the"),
        ("config.data.shots", "--config.data.shots=16\n      training images per class Values: 1 or more."),
        ("pattern", "config.dear.mask.pattern"),
        ("train", "--config.train.epochs=None\n"),
        ("eval", "whose images are measured on: test | val Values: test | val."),
        ("seeds", "--config.seeds=(1, 2, 3)\n      trained together in one program"),
    ],
)
def test_groups_and_keys(asked, found):
    assert found in key_help.of_keys(asked)


def test_what_is_no_key():
    with pytest.raises(UserError, match=r"--help='maks': no key or group of that name\. Groups and keys: backbone, "):
        key_help.of_keys("maks")
