"""The lists of runs, and their shards."""

from pathlib import Path

import pytest

from dear_jax import main as command_line
from dear_jax.data.protocols import PROTOCOLS
from dear_jax.errors import UserError
from dear_jax.setup.methods import METHODS
from experiments.sweep.items import left_out, make_items, read_methods, read_shots, shard
from tests import toy_probe


@pytest.mark.parametrize(
    ("protocol", "data", "count"),
    [
        ("base2new", "all", 11),
        ("few_shot", "all", 55),
        ("cross_dataset", "all", 1),
        ("domain_generalization", "all", 1),
        ("all", "all", 68),
        ("all", "world", 14),
        ("few_shot", "dtd, eurosat,dtd", 10),
    ],
)
def test_every_run_of_a_table_once_and_its_command_is_understood(protocol, data, count):
    items = make_items(protocol, data)
    assert len({item.name for item in items}) == len(items) == count
    for item in items:
        config, workdir, _ = command_line.parse(item.arguments(Path("sweep"), ["--config.train.epochs=1"]))
        assert config.protocol in PROTOCOLS
        assert config.train.epochs == 1
        assert workdir == Path("sweep") / item.name


def test_one_training_serves_both_transfers():
    *_, trained, evaluated = make_items("all", "all")
    assert (trained.name, evaluated.needs) == ("cross_dataset-imagenet", "cross_dataset-imagenet")
    config, _, _ = command_line.parse(evaluated.arguments(Path("sweep"), []))
    assert (config.job, config.run) == ("evaluate", "sweep/cross_dataset-imagenet")
    (alone,) = make_items("domain_generalization", "all")
    assert command_line.parse(alone.arguments(Path("sweep"), []))[0].job == "train"


@pytest.fixture
def more_methods(monkeypatch):
    """Two further methods, of which one knows no other classes than those trained on."""

    class Closed:
        OPEN_CLASSES = False

        def __getattr__(self, name):
            return getattr(toy_probe, name)

    monkeypatch.setitem(METHODS, "other", toy_probe)
    monkeypatch.setitem(METHODS, "closed", Closed())


def test_every_method_has_the_same_runs_in_workdirs_of_its_own(more_methods):
    alone, both = make_items("all", "all"), make_items("all", "all", ("dear", "other"))
    assert both[: len(alone)] == alone
    others = both[len(alone) :]
    assert [item.name for item in others] == [f"other-{item.name}" for item in alone]
    assert [item.needs for item in others] == [f"other-{item.needs}" if item.needs else "" for item in alone]
    for item in both:
        config, workdir, _ = command_line.parse(item.arguments(Path("sweep"), []))
        assert config.method == item.method
        assert workdir == Path("sweep") / item.name
        assert config.run == (f"sweep/{item.needs}" if item.needs else "")


def test_a_method_without_a_rule_for_a_protocol_is_left_out_of_it(more_methods):
    items = make_items("all", "dtd", ("closed", "other"))
    assert [item.name for item in items if item.method == "closed"] == [
        f"closed-few_shot-dtd-{shots}_shots" for shots in (1, 2, 4, 8, 16)
    ]
    assert len([item for item in items if item.method == "other"]) == 8
    (sentence,) = left_out("all", ("dear", "closed", "other"))
    assert sentence.startswith("Linear probe in base2new, cross_dataset, domain_generalization, where other classes")
    assert list(left_out("few_shot", ("closed",))) == []
    assert make_items("base2new", "all", ("closed",)) == []


def test_names_of_methods(more_methods):
    assert read_methods("all") == tuple(METHODS)
    assert read_methods(" other,dear,,other") == ("other", "dear")
    with pytest.raises(UserError, match=r"--methods: no method is called 'othr'.*nearest name is 'other'"):
        read_methods("dear,othr")
    with pytest.raises(UserError, match="--methods: expected all"):
        read_methods(" ,")


def test_numbers_of_shots():
    items = make_items("all", "dtd", shots=read_shots(" 16,1,,16"))
    assert [item.name for item in items if "shots" in item.name] == ["few_shot-dtd-1_shots", "few_shot-dtd-16_shots"]
    assert len(items) == 5
    for text in ("0", "a", "1.5", "-1", ",", ""):
        with pytest.raises(UserError, match="--shots: expected whole numbers from 1 on"):
            read_shots(text)


@pytest.mark.parametrize("count", [1, 3, 13, 100])
def test_shards_are_a_partition_and_keep_together_what_belongs_together(count, more_methods):
    asked = ("all", "all", ("dear", "other"))
    items = make_items(*asked)
    parts = [shard(items, f"{index}/{count}") for index in range(1, count + 1)]
    assert sorted(item.name for part in parts for item in part) == sorted(item.name for item in items)
    for part in parts:
        names = [item.name for item in part]
        assert all(not item.needs or names.index(item.needs) < names.index(item.name) for item in part)
    assert parts == [shard(make_items(*asked), f"{index}/{count}") for index in range(1, count + 1)]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/2/3"])
def test_no_shard(text):
    with pytest.raises(UserError, match="--shard: expected i/n"):
        shard(make_items("base2new", "all"), text)


@pytest.mark.parametrize(("data", "message"), [("dtt", "nearest name is 'dtd'"), (",", "--data: expected all")])
def test_no_data(data, message):
    with pytest.raises(UserError, match=message):
        make_items("base2new", data)
