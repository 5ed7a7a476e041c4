"""Markdown and CSV of any cells."""

import csv
import io

from dear_jax.report import text_tables


def test_a_cell_cannot_end_its_column():
    lines = text_tables.to_markdown(["", "a|b"], [["x|y", "1"]]).splitlines()
    assert lines == ["|  | a\\|b |", "| --- | ---: |", "| x\\|y | 1 |"]


def test_csv_is_read_as_it_was_written():
    rows = [["name", "value"], ['a "b", c', "1\n2"]]
    assert list(csv.reader(text_tables.to_csv(rows).splitlines(keepends=True))) == rows


def test_a_spreadsheet_runs_no_cell():
    texts = ["=1+2", "+1 cmd", "-a", "@x", "\t=1", "\r=1", "a=1", "'=1"]
    numbers = ["-1.5", "+3", "-1e-05", -2, 0.5, None]
    (found,) = csv.reader(io.StringIO(text_tables.to_csv([[*texts, *numbers]]), newline=""))
    assert found[:8] == ["'=1+2", "'+1 cmd", "'-a", "'@x", "'\t=1", "'\r=1", "a=1", "'=1"]
    assert found[8:] == ["-1.5", "+3", "-1e-05", "-2", "0.5", ""]
