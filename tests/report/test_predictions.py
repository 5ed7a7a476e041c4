"""Predictions in words and in CSV."""

import csv
import io

import numpy as np

from dear_jax.report import predictions, text_tables
from dear_jax.report.predictions import WHOLE, ZERO_SHOT

NAMES = ["cat", 'dog, "the" animal']
OPINIONS = {WHOLE: np.array([0.25, 0.75]), ZERO_SHOT: np.array([0.6, 0.4]), "color": np.array([1e-9, 1 - 1e-9])}


def test_in_words():
    assert predictions.describe("a.png", NAMES, OPINIONS).splitlines() == [
        'a.png: dog, "the" animal 75.0 %',
        '    zero-shot CLIP: cat 60 %, color: dog, "the" animal 100 %',
    ]
    assert predictions.summary(["b", "a", "b"]) == "2 b, 1 a"
    assert predictions.summary("aabcd", at_most=2) == "2 a, 1 b, 2 of other classes"


def test_rows_fit_the_header():
    header = predictions.header(list(OPINIONS))
    rows = [predictions.row("a,b.png", NAMES, OPINIONS), predictions.bad_row("c.png", list(OPINIONS), "torn")]
    read = list(csv.DictReader(io.StringIO(text_tables.to_csv([header, *rows]))))
    assert read[0] == {
        "image": "a,b.png",
        "prediction": 'dog, "the" animal',
        "probability": "0.75",
        "zero-shot CLIP": "cat",
        "zero-shot CLIP probability": "0.6",
        "color": 'dog, "the" animal',
        "color probability": "1",
        "problem": "",
    }
    assert (read[1]["image"], read[1]["problem"], read[1]["prediction"]) == ("c.png", "torn", "")


def test_records_are_the_rows_before_they_are_texts():
    record = predictions.record("a,b.png", NAMES, OPINIONS)
    assert list(record) == predictions.header(list(OPINIONS))[:-1]
    assert (record["prediction"], record["probability"], record["zero-shot CLIP probability"]) == (NAMES[1], 0.75, 0.6)


def test_as_a_table():
    table = predictions.table("1 image.", NAMES, [("a.png", OPINIONS)])
    assert table.head == ("image", "prediction", "zero-shot CLIP", "color")
    assert table.rows == (("a.png", 'dog, "the" animal 75.0 %', "cat 60.0 %", 'dog, "the" animal 100.0 %'),)


def test_what_else_is_known_is_a_column():
    header = predictions.header(list(OPINIONS), "truth")
    rows = [predictions.row("a.png", NAMES, OPINIONS, "cat"), predictions.bad_row("c.png", list(OPINIONS), "torn", "")]
    read = list(csv.DictReader(io.StringIO(text_tables.to_csv([header, *rows]))))
    assert [row["truth"] for row in read] == ["cat", ""]
    assert read[0]["prediction"] == NAMES[1]
    right = {"all paths": np.array([True, False, True]), "color": np.array([False, False, False])}
    assert predictions.accuracies(right) == "all paths 66.7 %, color 0.0 %"
