"""Curves and bars are drawn for any number of data sets, settings and columns."""

import re

import numpy as np
import pytest
from PIL import Image

from dear_jax.report import comparison_figures
from dear_jax.report.blocks import Block, Cell, Table

ZERO_SHOT = {"Base": Cell(70.0), "New": Cell(72.0)}
ODD = "costs $5 or $x_{$ to make, mask.pattern=open, and very many other settings of which nobody knows the end"


def check(files):
    assert [file.suffix for file in files] == [".png", ".svg", ".pdf"]
    with Image.open(files[0]) as picture:
        assert picture.width >= 600
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    return files[1].read_text()


@pytest.mark.parametrize("count", [1, 5, 12])
def test_curves(tmp_path, count):
    shots = ("1 shot", "2 shots", "16 shots")
    rows = {
        "zero-shot CLIP": dict.fromkeys(shots, Cell(50.0)),
        ODD: {column: Cell(60.0, 1.0, 3) for column in shots},
        "open": {"2 shots": Cell(61.0, None, 1)},
    }
    table = Table("few-shot", "", tuple(Block(f"set {n}", shots, rows) for n in range(count)))
    svg = check(comparison_figures.draw_curves(table, tmp_path / "curves"))
    assert len(re.findall(r"<!-- set \d+ -->", svg)) == count


@pytest.mark.parametrize("references", [0, 1, 2])
def test_bars(tmp_path, references):
    rows = {f"zero-shot {n}": ZERO_SHOT for n in range(references)}
    rows |= {"open": {"Base": Cell(80.0, 1.0, 3), "New": Cell(60.0, 2.0, 3)}, ODD: {"New": Cell(75.0, None, 1)}}
    svg = check(comparison_figures.draw_bars(Block("dtd", ("Base", "New"), rows), "a $title", tmp_path / "bars"))
    assert "80.00 ± 1.00" in svg
    assert ("dashed line: zero-shot 0" in svg) == (references == 1)


def test_zero_shot_clip_is_a_line_also_with_one_number_of_shots(tmp_path):
    rows = {"zero-shot CLIP": {"16 shots": Cell(50.0)}, "DeAR": {"16 shots": Cell(60.0, 1.0, 3)}}
    table = Table("few-shot", "", (Block("dtd", ("16 shots",), rows),))
    svg = check(comparison_figures.draw_curves(table, tmp_path / "curves"))
    lines = re.findall(r'<path d="([^"]*)"[^>]*stroke-dasharray: 3.7,1.6', svg)
    ends = [[float(x) for x in re.findall(r"[ML] ([\d.]+) ", line)] for line in lines]
    assert max(x[1] - x[0] for x in ends) > 100  # from side to side, and the legend's


def test_published_rows_are_markers_not_bars(tmp_path):
    rows = {"CLIP": ZERO_SHOT, "zero-shot": ZERO_SHOT}
    rows |= {"MMRL": {"Base": Cell(85.0)}, "DeAR": {"Base": Cell(80.0, 1.0, 3)}}
    block = Block("dtd", ("Base",), rows)
    svg = check(comparison_figures.draw_bars(block, "title", tmp_path / "bars", published=("CLIP", "MMRL")))
    assert "<!-- MMRL (published) -->" in svg
    assert "<!-- CLIP (published) -->" in svg
    assert "dashed" in svg  # the line of zero-shot CLIP, measured here
    published = Block("dtd", ("Base",), {name: rows[name] for name in ("CLIP", "zero-shot", "MMRL")})
    assert comparison_figures.draw_bars(published, "title", tmp_path / "none", published=("CLIP", "MMRL")) == []


def test_more_columns_than_fit_in_a_row(tmp_path):
    columns = tuple(f"set {n}" for n in range(11))
    rows = {"DeAR": {column: Cell(80.0, 1.0, 3) for column in columns}}
    comparison_figures.draw_bars(Block("imagenet", columns, rows), "wide", tmp_path / "bars")
    with Image.open(tmp_path / "bars.png") as picture:
        assert picture.width < 2500


def test_references_alone_are_no_figure(tmp_path):
    assert comparison_figures.draw_bars(Block("dtd", ("Base", "New"), {"CLIP": ZERO_SHOT}), "t", tmp_path / "a") == []


def test_the_same_figure_is_the_same_file(tmp_path):
    block = Block("dtd", ("Base",), {"DeAR": {"Base": Cell(80.0, 1.0, 3)}})
    for name in ("a", "b"):
        comparison_figures.draw_bars(block, "title", tmp_path / name)
    for suffix in ("svg", "pdf"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
