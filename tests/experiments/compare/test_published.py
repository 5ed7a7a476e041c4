"""The published accuracies are consistent with themselves."""

import csv

import numpy as np
import pytest

from dear_jax.data.protocols import harmonic_mean
from experiments.compare import published

PRINTED = 0.011  # two decimals, of numbers that were rounded themselves
FOUND = published.read_published()
BASE2NEW = [(method, cells) for method, cells in FOUND["base2new"].items() if method != "DeAR"]


def test_every_row_has_a_source_and_is_read():
    lines = list(csv.DictReader(published.FILE.read_text().splitlines()))
    assert all(line["source"] for line in lines)
    cells = [row for methods in FOUND.values() for places in methods.values() for row in places.values()]
    assert sum(map(len, cells)) == len(lines)


@pytest.mark.parametrize(("method", "cells"), BASE2NEW)
def test_harmonic_means_are_those_of_base_and_new(method, cells):
    for place, row in cells.items():
        assert set(row) == {"base", "new", "hm"}
        expected = harmonic_mean(row["base"].mean, row["new"].mean)
        warned = bool(row["hm"].notes)
        assert (abs(row["hm"].mean - expected) > PRINTED) == warned, (place, expected)


@pytest.mark.parametrize(("method", "cells"), BASE2NEW)
def test_averages_are_those_of_the_rows(method, cells):
    for column in ("base", "new"):
        mean = np.mean([cells[name][column].mean for name in published.DATASETS.values()])
        assert abs(mean - cells[published.AVERAGE][column].mean) <= PRINTED
