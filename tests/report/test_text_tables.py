"""Markdown and CSV of any cells."""

import csv

from dear_jax.report import text_tables


def test_a_cell_cannot_end_its_column():
    lines = text_tables.to_markdown(["", "a|b"], [["x|y", "1"]]).splitlines()
    assert lines == ["|  | a\\|b |", "| --- | ---: |", "| x\\|y | 1 |"]


def test_csv_is_read_as_it_was_written():
    rows = [["name", "value"], ['a "b", c', "1\n2"]]
    assert list(csv.reader(text_tables.to_csv(rows).splitlines(keepends=True))) == rows
