"""Points of base against new accuracy, and of accuracy over what it costs."""

import re

import numpy as np
import pytest
from PIL import Image

from dear_jax.report import tradeoff_figures
from dear_jax.report.blocks import Block, Cell
from dear_jax.report.method_styles import look

ODD = "costs $5 or $x_{$ to make, and very many other settings of which nobody knows the end"


def check(files):
    assert [file.suffix for file in files] == [".png", ".svg", ".pdf"]
    with Image.open(files[0]) as picture:
        assert picture.width >= 600
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    return files[1].read_text()


def pair(base, new, *rest):
    return {"Base": Cell(base, *rest), "New": Cell(new, *rest)}


def draw_pairs(tmp_path, rows, **rest):
    return tradeoff_figures.draw_pairs(
        Block("dtd", ("Base", "New", "HM"), rows), "a $title\nin two", tmp_path / "p", **rest
    )


def texts(svg):
    return re.findall(r"<!-- (.*?) -->", svg)


def test_pairs(tmp_path):
    rows = {"MMRL": pair(85.68, 77.16), "DeAR (ours)": pair(85.0, 75.0, 1.0, 3), ODD: pair(90.0, 60.0, 2.0, 3)}
    rows |= {"CLIP": pair(69.34, 74.22), "base alone": {"Base": Cell(80.0)}}
    svg = check(draw_pairs(tmp_path, rows, published=("MMRL", "CLIP"), looks={"DeAR (ours)": look(3)}))
    found = texts(svg)
    assert {"MMRL (published)", "CLIP (published)", "DeAR (ours)"} <= set(found)
    assert not any("base alone" in text for text in found)
    assert look(3).color.lower() in svg
    # Lines of equal HM, from 100 / (100 / base + 100 / new) of the lowest and the highest corner.
    assert {"HM", "70", "75", "80"} <= set(found)


@pytest.mark.parametrize("rows", [{}, {"CLIP": pair(69.34, 74.22)}, {"DeAR": {"Base": Cell(85.94)}}])
def test_no_pairs_without_a_measured_point(tmp_path, rows):
    assert draw_pairs(tmp_path, rows) == []


def test_a_single_pair_and_one_at_the_corner(tmp_path):
    check(draw_pairs(tmp_path, {"DeAR (ours)": pair(80.0, 70.0, None, 1)}))
    check(draw_pairs(tmp_path, {"DeAR (ours)": pair(100.0, 0.0, 0.0, 3), "b": pair(0.0, 100.0, 0.0, 3)}))


def draw_costs(tmp_path, cost="parameters", **parameters):
    rows = {
        name: {"HM": Cell(70.0 + n, 1.0, 3, parameters=numbers, step_seconds=0.1 * n or None)}
        for n, (name, numbers) in enumerate(parameters.items())
    }
    rows["zero-shot"] = {"HM": Cell(60.0)}
    return tradeoff_figures.draw_costs(Block("dtd", ("HM",), rows), "HM", cost, "a $title", tmp_path / "c")


@pytest.mark.parametrize(
    ("most", "ticks"),
    [
        (8_192 + 1, {"5,000", "10,000"}),  # nearly the same: some number stands at the axis all the same
        (60_000, {"5,000", "10,000", "50,000", "100,000"}),
        (18_762_496, {"10,000", "100,000", "1,000,000", "10,000,000"}),
    ],
)
def test_costs_have_their_numbers_written_out(tmp_path, most, ticks):
    found = texts(check(draw_costs(tmp_path, a=(8_192,), b=(8_192, most), c=())))
    assert ticks <= set(found)
    assert {"a", "b", "zero-shot"} <= set(found)
    assert "c" not in found


def test_what_costs_nothing_stands_at_zero(tmp_path):
    found = texts(check(draw_costs(tmp_path, a=(0,), b=(819_200,))))
    assert {"0", "100,000", "1,000,000"} <= set(found)


def test_the_time_of_a_step(tmp_path):
    found = texts(check(draw_costs(tmp_path, "step_seconds", unknown=(), a=(), b=())))
    assert {"0.1", "0.2", "a", "b"} <= set(found)
    assert "unknown" not in found


def test_one_point_is_no_figure(tmp_path):
    assert draw_costs(tmp_path, a=(8_192,), b=()) == []
