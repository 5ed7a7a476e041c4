"""The key data.shots_file: whose draws a run takes, which it writes, and what its results say of it."""

import json

import numpy as np
import pytest

from dear_jax import main
from dear_jax.clip.checkpoints.weights import load_backbone
from dear_jax.data.class_set import FEW, SHOTS
from dear_jax.errors import UserError
from dear_jax.files.workdir import Workdir
from dear_jax.jobs import select
from dear_jax.setup import data, departures
from tests.repository import REPOSITORY


def parse(file, *flags: str, protocol: str = "few_shot"):
    path = REPOSITORY / "configs" / f"{protocol}.py"
    given = [f"--config={path}:world_objects", "--config.seeds=1,2", "--config.train.batch_size=4"]
    return main.parse([*given, "--config.data.shots=2", f"--config.data.shots_file={file}", *flags])[0]


def load(file, workdir=None, protocol: str = "few_shot"):
    plan = data.read(parse(file, protocol=protocol))
    return data.load_task(plan, load_backbone("embedded"), workdir)


def names(task) -> list[list[str]]:
    return [list(split.names) for split in task.train]


def test_the_draw_is_written_and_read_again(tmp_path, capsys):
    file = tmp_path / "draws.jsonl"
    plain = load("")
    load(file)
    assert not file.exists()  # a dry run writes nothing
    with Workdir(tmp_path / "run") as files:
        first = load(file, files)
        assert f"The draw of training images goes to {file}." in capsys.readouterr().out
        content = file.read_text()
        second = load(file, files)
    assert f"The draw of training images is that of {file}." in capsys.readouterr().out
    assert file.read_text() == content
    assert names(first) == names(second) == names(plain)
    assert "shots_file" not in plain.data
    assert first.data["shots_file"] == second.data["shots_file"]
    assert first.data["shots_file"]["drawn_by_seed"]
    for which in (FEW, SHOTS):
        for one, other in zip(plain.validation(which), second.validation(which), strict=True):
            assert one.names == other.names
    assert departures.of_listed_draws(second.data) == []


@pytest.mark.parametrize("protocol", ["few_shot", "base2new"])
def test_a_run_takes_the_images_of_the_file(tmp_path, protocol):
    file = tmp_path / "draws.jsonl"
    with Workdir(tmp_path / "run") as files:
        plain = load(file, files)
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    entries = [entry | {"seed": 3 - entry["seed"]} for entry in entries]  # the one seed's draw is the other's
    file.write_text("\n".join(map(json.dumps, entries)))
    task = load(file, protocol=protocol)
    if protocol == "few_shot":
        assert names(task) == names(plain)[::-1]
        assert [one.names for one in task.validation(FEW)] == [one.names for one in plain.validation(FEW)[::-1]]
    else:
        kept = np.unique(plain.train[1].keep_classes(range(5)).names)
        assert set(task.train[0].names) == set(kept)
    assert not task.data["shots_file"]["drawn_by_seed"]
    assert "those of config.data.shots_file" in departures.of_listed_draws(task.data)[0]


def test_seeds_that_cannot_be_trained_together(tmp_path):
    file = tmp_path / "draws.jsonl"
    with Workdir(tmp_path / "run") as files:
        load(file, files)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[1:]))
    with pytest.raises(UserError, match=r"as many images of each class; of class .* they have 1 of seed 1, 2 of"):
        load(file)


def test_a_selection_has_draws_of_its_own():
    with pytest.raises(UserError, match=r"config.data.shots_file is of training runs: the job select draws for each"):
        select.make_plan(parse("draws.jsonl", "--config.job=select"))
