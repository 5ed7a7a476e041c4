"""Average ranks and the signed-rank test, against values computed by hand."""

import itertools

import numpy as np
import pytest

from dear_jax.report.blocks import Block, Cell
from experiments.compare.ranks import FEW, average_ranks, rank_blocks, signed_rank

DEAR, MMRL, COOP = "DeAR (ours)", "MMRL (ours)", "CoOp (ours)"


def blocks(scores, column="HM"):
    """One block per data set; the published row and zero-shot CLIP play no part."""
    count = max(map(len, scores.values()))
    beside = {name: {column: Cell(99.0)} for name in ("MMRL", "MMRL, difference", "zero-shot CLIP (ours)")}
    return [
        Block(
            f"set {n}",
            ("Base", column),
            beside | {name: {column: Cell(row[n])} for name, row in scores.items() if n < len(row)},
        )
        for n in range(count)
    ]


def exact(differences):
    """The two-sided p-value by counting all signs."""
    size = np.abs(differences)
    ranks = np.array([(size < one).sum() + ((size == one).sum() + 1) / 2 for one in size])
    expected = ranks.sum() / 2
    found = abs(ranks[differences > 0].sum() - expected)
    signs = np.array(list(itertools.product((0, 1), repeat=len(ranks))))
    return np.mean(np.abs(signs @ ranks - expected) >= found - 1e-9)


@pytest.mark.parametrize(
    "differences",
    [
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        [1.0, -2.0, 3.5, 4.0, 5.0, -0.5, 7.0],
        [-1.0, 2.5, -3.0, 0.25, 6.0, 7.0, 8.0, -9.0, 10.0, 11.0, 12.0],
    ],
)
def test_p_values_are_those_of_all_signs(differences):
    found, count = signed_rank(np.array([*differences, 0.0]))
    assert count == len(differences)
    assert found == pytest.approx(exact(np.array(differences)))


def test_the_least_p_value_falls_below_a_twentieth_with_the_sixth_data_set():
    assert signed_rank(np.arange(1.0, 6.0)) == (pytest.approx(2 / 2**5), 5)
    assert signed_rank(np.arange(1.0, 7.0)) == (pytest.approx(2 / 2**6), 6)
    assert signed_rank(np.zeros(6)) == (1.0, 0)


def test_ranks_are_averaged_and_ties_share_theirs():
    scores = {
        DEAR: {"a": 80.0, "b": 70.0},
        MMRL: {"a": 81.0, "b": 70.0 + 1e-9, "c": 1.0},
        COOP: {"a": 79.0, "b": 71.0},
        "TCP (ours)": {"a": 90.0},
    }
    assert average_ranks(scores, DEAR) == {DEAR: 2.25, MMRL: 1.75, COOP: 2.0}
    assert average_ranks({DEAR: {"a": 1.0}, COOP: {"b": 1.0}}, DEAR) == {}


def test_a_block_compares_each_method_with_the_first_one():
    dear = np.array([80.0, 70.0, 60.0, 50.0, 90.0, 85.0, 75.0])
    scores = {COOP: dear - np.arange(1, 8), DEAR: dear, MMRL: (dear + 1)[:5]}
    (block,) = rank_blocks(blocks(scores))
    assert (block.title, block.accuracies) == ("Ranks by HM", False)
    assert f"that of {DEAR}" in block.remark
    assert list(block.rows) == [DEAR, COOP, MMRL]  # the best first, then what lacks data sets
    assert [row["Data sets"].mean for row in block.rows.values()] == [7, 7, 5]
    assert [row["Average rank"].mean for name, row in block.rows.items() if name != MMRL] == [1.0, 2.0]
    assert "Average rank" not in block.rows[MMRL]
    assert not {"p", "Median difference"} & block.rows[DEAR].keys()
    coop, mmrl = block.rows[COOP], block.rows[MMRL]
    assert (coop["Median difference"].mean, coop["p"].mean, coop["p"].notes) == (-4.0, 2 / 2**7, ())
    assert (mmrl["Median difference"].mean, mmrl["p"].notes) == (1.0, (FEW,))


def test_without_the_first_method_the_first_row_is_what_others_are_compared_with():
    (block,) = rank_blocks(blocks({MMRL: [1.0, 2.0], COOP: [3.0, 1.0]}))
    assert "p" not in block.rows[MMRL]
    settings = {f"{DEAR}, open": [1.0, 2.0], MMRL: [1.0, 2.0], DEAR: [1.0, 3.0]}
    (block,) = rank_blocks(blocks(settings))
    assert [name for name, row in block.rows.items() if "p" not in row] == [DEAR]


def test_each_number_of_shots_has_its_ranks_and_one_row_has_none():
    scores = {DEAR: [1.0, 2.0], MMRL: [3.0, 1.0]}
    shots = [
        Block(few.title, ("2 shots", "16 shots", "1 shot"), {name: few.rows[name] | many.rows[name] for name in scores})
        for few, many in zip(blocks(scores, "2 shots"), blocks(scores, "16 shots"), strict=True)
    ]
    assert [block.title for block in rank_blocks(shots)] == ["Ranks by 2 shots", "Ranks by 16 shots"]
    assert rank_blocks(blocks({DEAR: [1.0, 2.0]})) == []
