"""Our rows stand beside the published ones, with what they differ by."""

import pytest

from dear_jax.report.blocks import Cell
from experiments.compare.beside import arrange, difference, is_ours, is_published

PUBLISHED = {
    "CLIP": {"Base": Cell(53.24, source="a paper"), "New": Cell(59.90)},
    "MMRL": {"Base": Cell(85.67), "New": Cell(65.0), "HM": Cell(73.82, notes=("A slip.",), source="a paper")},
    "DeAR": {"Base": Cell(83.9)},
}
OURS = {
    "zero-shot CLIP (ours)": {"Base": Cell(53.0)},
    "DeAR (ours)": {"New": Cell(60.0, 1.0, 3)},
    "MMRL (ours)": {"Base": Cell(85.0, 1.0, 3), "HM": Cell(74.0, 0.5, 2, ("Fewer seeds.",), "runs/a")},
    "MMRL (ours), layer=9": {"Base": Cell(80.0)},
    "Other (ours)": {"Base": Cell(80.0)},
}


def test_rows_of_a_method_stand_together():
    assert list(arrange(PUBLISHED | OURS)) == [
        "CLIP",
        "zero-shot CLIP (ours)",
        "CLIP, difference",
        "MMRL",
        "MMRL (ours)",
        "MMRL, difference",
        "MMRL (ours), layer=9",
        "DeAR",
        "DeAR (ours)",  # no column that both have
        "Other (ours)",
    ]
    assert list(arrange(OURS)) == list(OURS)


def test_a_difference_is_ours_less_the_published_and_has_the_notes_of_both():
    found = difference(OURS["MMRL (ours)"], PUBLISHED["MMRL"])
    assert found["Base"] == Cell(pytest.approx(-0.67), form="+z.2f", competes=False)
    assert found["HM"].mean == pytest.approx(0.18)
    assert (found["HM"].notes, found["HM"].source) == (("A slip.", "Fewer seeds."), "runs/a; a paper")
    assert "New" not in found


def test_every_row_is_ours_or_published_or_a_difference():
    rows = arrange(PUBLISHED | OURS)
    assert [name for name in rows if is_ours(name)] == [name for name in rows if name in OURS]
    assert [name for name in rows if is_published(name)] == list(PUBLISHED)
