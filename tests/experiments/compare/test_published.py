"""The published accuracies are consistent with themselves."""

import csv

import numpy as np
import pytest

from dear_jax.data.protocols import harmonic_mean
from dear_jax.report.blocks import Block, Table, to_markdown
from experiments.compare import published

PRINTED = 0.011  # two decimals, of numbers that were rounded themselves
AVERAGED = 0.02  # the same, of eleven of them
OFF = {("MMRL", "dtd")}  # whose printed HM is not that of its base and new
WHOLE = ("CLIP", "CoOp", "CoCoOp", "MaPLe", "PromptSRC", "MMRL")  # all eleven data sets are there
FOUND = published.read_published()
BASE2NEW = FOUND["base2new"]
HALVES = [
    (method, place, row) for method, cells in BASE2NEW.items() for place, row in cells.items() if len(row) > 1
]  # of DeAR only the base is known


def lines():
    return list(csv.DictReader(published.FILE.read_text().splitlines()))


def test_every_row_has_a_source_and_is_read():
    assert all(line["source"] for line in lines())
    cells = [row for methods in FOUND.values() for places in methods.values() for row in places.values()]
    assert sum(map(len, cells)) == len(lines())


def test_methods_and_their_averages():
    assert tuple(name for name, cells in BASE2NEW.items() if set(published.DATASETS.values()) <= cells.keys()) == WHOLE
    averages = {name: [cell.mean for cell in cells[published.AVERAGE].values()] for name, cells in BASE2NEW.items()}
    assert averages["TCP"] == [84.13, 75.36, 79.51]
    assert averages["2SFS"] == [85.55, 75.48, 80.20]
    assert averages["PromptKD"] == [86.96, 80.73, 83.73]
    assert averages["DeAR"] == [85.94]
    assert BASE2NEW["DeAR"]["imagenet"]["base"].mean == 78.12


@pytest.mark.parametrize(("method", "place", "row"), HALVES, ids=lambda value: value if isinstance(value, str) else "")
def test_harmonic_means_are_those_of_base_and_new(method, place, row):
    assert set(row) == {"base", "new", "hm"}
    expected = harmonic_mean(row["base"].mean, row["new"].mean)
    assert (abs(row["hm"].mean - expected) > PRINTED) == ((method, place) in OFF), expected
    if (method, place) in OFF:
        assert f"{expected:.2f}" in row["hm"].notes[0]


@pytest.mark.parametrize("method", WHOLE)
def test_averages_are_those_of_the_rows(method):
    cells = BASE2NEW[method]
    for column in ("base", "new"):
        mean = np.mean([cells[name][column].mean for name in published.DATASETS.values()])
        assert abs(mean - cells[published.AVERAGE][column].mean) <= AVERAGED


@pytest.mark.parametrize("protocol", ["cross_dataset", "domain_generalization"])
def test_averages_of_targets_are_those_of_the_targets(protocol):
    for method, cells in FOUND[protocol].items():
        targets = [row["accuracy"].mean for place, row in cells.items() if place not in ("imagenet", published.AVERAGE)]
        assert abs(np.mean(targets) - cells[published.AVERAGE]["accuracy"].mean) <= AVERAGED, method


def test_notes_are_footnotes_of_the_tables():
    rows = {name: BASE2NEW[name][published.AVERAGE] for name in ("PromptKD", "TCP")}
    text = to_markdown([Table("t", "", (Block("b", ("base", "new", "hm"), rows),))])
    assert "| PromptKD | 86.96 [a] | 80.73 [a] | 83.73 [a] |" in text
    assert "| TCP | 84.13 | 75.36 | 79.51 |" in text
    assert "[a] Learns from unlabelled images and from a larger teacher." in text
