"""The time of a step, whatever a run has been through."""

import json

import pytest

from dear_jax.report.step_times import step_seconds


def write(tmp_path, *rows):
    file = tmp_path / "metrics.jsonl"
    file.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return file


def row(step, seconds):
    return {"step": step, "epoch": 0.1, "seconds": seconds, "loss": {"default": [1.0]}}


def test_the_median_over_rows_has_no_slow_ones_in_it(tmp_path):
    rows = [row(10, 30.0), row(20, 35.0), row(30, 40.0), row(33, 90.0), row(40, 93.5)]
    assert step_seconds(write(tmp_path, *rows)) == 0.5 + 0.0


def test_one_row_is_enough(tmp_path):
    assert step_seconds(write(tmp_path, row(4, 2.0))) == 0.5


def test_each_start_counts_its_own_seconds_and_what_is_no_row_of_training_has_none(tmp_path):
    evaluation = {"step": 40, "seconds": 100.0, "evaluation": {}}
    rows = [row(10, 5.0), row(20, 10.0), row(30, 4.0), '{"step": 31, "sec', "[1]", row(40, 9.0), evaluation]
    assert step_seconds(write(tmp_path, *rows)) == 0.5


@pytest.mark.parametrize("rows", [[], ["torn"], [{"step": 3, "loss": 1.0}], [{"step": 1, "seconds": None}]])
def test_without_times_there_is_none(tmp_path, rows):
    assert step_seconds(write(tmp_path, *rows)) is None
    assert step_seconds(tmp_path / "nowhere.jsonl") is None
