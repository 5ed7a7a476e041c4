"""Are the methods different over data sets? Average ranks, and Wilcoxon's signed-rank test against one of them.

In: the blocks of the data sets. Out: a block of ranks for the harmonic mean, or for each number of shots. The data sets
are the sample, each with its mean over the seeds (Demsar, Statistical comparisons of classifiers over multiple data
sets, JMLR 2006).
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from dear_jax.report.blocks import Block, Cell, Row
from dear_jax.report.tables import TITLES
from dear_jax.setup.methods import METHODS
from experiments.compare.beside import is_ours
from experiments.compare.settings import FIRST, OURS, ZERO_SHOT, is_plain

RANKED = re.compile(rf"{TITLES['hm']}|[0-9]+ shots?")  # the columns that methods are compared by
LEAST = 6  # differences below which no two-sided p-value is under .05: 2 / 2^5 is .0625
EXACT = 6  # decimals of accuracies that count as equal
FEW = f"Fewer than {LEAST} data sets differ: no p-value below .05 is possible."

Scores = Mapping[str, Mapping[str, float]]  # row -> data set -> accuracy in percent


def rank_blocks(blocks: Sequence[Block]) -> list[Block]:
    """A block of ranks for each column that is compared; none where there are no two of our trained rows.

    Args:
        blocks: one per data set.
    """
    columns = dict.fromkeys(column for block in blocks for column in block.columns if RANKED.fullmatch(column))
    ordered = sorted(columns, key=lambda column: int(column.split()[0]) if column[0].isdecimal() else 0)
    found = [_rank_block(column, _scores(blocks, column)) for column in ordered]
    return [block for block in found if block is not None]


def _scores(blocks: Sequence[Block], column: str) -> Scores:
    """What our trained rows have in one column."""
    scores: dict[str, dict[str, float]] = {}
    for block in blocks:
        for name, row in block.rows.items():
            if is_ours(name) and not name.startswith(ZERO_SHOT) and column in row:
                scores.setdefault(name, {})[block.title] = row[column].mean
    return scores


def _rank_block(column: str, scores: Scores) -> Block | None:
    if len(scores) < 2:
        return None
    reference = _reference(scores)
    ranks, heads = average_ranks(scores, reference), ["Average rank", "Data sets", "Median difference", "p"]
    rows: dict[str, Row] = {}
    for name, own in sorted(scores.items(), key=lambda row: ranks.get(row[0], len(scores) + 1)):
        rank = {"Average rank": Cell(ranks[name])} if name in ranks else {}
        both = [dataset for dataset in own if dataset in scores[reference]]
        rows[name] = rank | {"Data sets": Cell(len(both), form=".0f")}
        if name != reference and both:
            differences = np.array([own[dataset] - scores[reference][dataset] for dataset in both])
            p, count = signed_rank(differences)
            rows[name] |= {
                "Median difference": Cell(float(np.median(differences)), form="+z.2f"),
                "p": Cell(p, form=".4f", notes=(FEW,) if count < LEAST else ()),
            }
    remark = (
        f"Of each row's {column} and that of {reference} on the data sets that both have: the median difference in "
        "points and the two-sided p-value of Wilcoxon's signed-rank test, not corrected for the number of rows. The "
        f"rank, 1 for the best, is averaged over the data sets of {reference}, among the rows that have all of them."
    )
    return Block(f"Ranks by {column}", tuple(heads), rows, remark, accuracies=False)


def _reference(scores: Scores) -> str:
    """Ours of the first method, if there is one, with no setting changed if there is such a row; else the first row."""
    ours = f"{METHODS[FIRST].TITLE} {OURS}"
    return min(scores, key=lambda name: (not name.startswith(ours), not is_plain(name)))


def average_ranks(scores: Scores, reference: str) -> dict[str, float]:
    """Row -> its rank averaged over the data sets of the reference; empty where there are no two rows to rank.

    Rows that lack one of those data sets have none. Equal accuracies share the mean of their ranks.
    """
    names = [name for name, own in scores.items() if scores[reference].keys() <= own.keys()]
    if len(names) < 2:
        return {}
    table = np.array([[scores[name][dataset] for dataset in scores[reference]] for name in names])
    ranks = stats.rankdata(-table.round(EXACT), axis=0)
    return dict(zip(names, ranks.mean(axis=1).tolist(), strict=True))


def signed_rank(differences: np.ndarray) -> tuple[float, int]:
    """Wilcoxon's two-sided p-value, and how many differences it is from: those of 0 are dropped."""
    kept = differences.round(EXACT)
    kept = kept[kept != 0]
    return (float(stats.wilcoxon(kept).pvalue) if len(kept) else 1.0), len(kept)
