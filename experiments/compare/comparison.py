"""Runs beside published results: one `Table` per protocol and kind of data.

In: runs. Out: tables whose rows are methods, and a sentence for what fits nowhere. Runs of the same setting
make one row: other data sets are other blocks, other seeds are averaged, other shots are other columns of a few-shot
table. The average over data sets has the HM of the averaged base and new accuracies, as published tables do; the ranks
of the methods over data sets follow it. For figures, whose lines have no notes, every average is over the same data
sets.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from dear_jax.data.datasets import DATASETS
from dear_jax.data.protocols import PROTOCOLS, harmonic_mean, summarize
from dear_jax.errors import UserError
from dear_jax.report.blocks import Block, Cell, Row, Table
from dear_jax.report.runs import Run, Scores
from dear_jax.report.tables import TITLES
from dear_jax.setup.methods import METHODS
from experiments.compare import published
from experiments.compare.beside import arrange
from experiments.compare.measured import NO_SEED, Measured, Place, Rows, add_run, kind_of
from experiments.compare.ranks import rank_blocks
from experiments.compare.settings import ZERO_SHOT, is_plain, method_of

KINDS = {"published": "", "world": ", embedded world", "own": ", images of one's own"}
AVERAGE = "Average over "  # how the title of such a block begins
SHOTS = re.compile(r"[0-9]+ shots?")  # the head of a few-shot column
CAPTION = "Top-1 accuracy in percent, ± population standard deviation over the seeds."
BESIDE = (
    f" Rows marked (ours) are measured; the others are published (CLIP ViT-B/16, {published.SHOTS} shots), or the "
    "difference of the two in points."
)


def compare(runs: Sequence[Run], even: bool = False) -> tuple[list[Table], list[str]]:
    """All tables, and what is wrong with the runs that are in none.

    Args:
        runs: of any protocols.
        even: whether averages are over the same data sets in every row and column, without the rows that lack some;
            else each is over what there is, and says so in a note.
    """
    groups: dict[tuple[str, str], Rows] = {(protocol, kind): {} for protocol in PROTOCOLS for kind in KINDS}
    problems: list[str] = []
    for run in runs:
        try:
            problems += add_run(run, groups[run.protocol, kind_of(run)])
        except UserError as error:
            problems.append(str(error))
    return [_table(protocol, kind, rows, even) for (protocol, kind), rows in groups.items() if rows], problems


def _table(protocol: str, kind: str, rows: Rows, even: bool) -> Table:
    beside = published.read_published().get(protocol, {}) if kind == "published" else {}
    rows = dict(sorted(rows.items(), key=lambda row: _place_of_row(row[0])))
    places = sorted({place for measured in rows.values() for place in measured}, key=_order)
    if PROTOCOLS[protocol].transfers:
        blocks = [_transfer_block(place, rows, beside) for place in places]
    else:
        blocks = [_dataset_block(name, rows, beside) for name in dict.fromkeys(name for name, _, _ in places)]
        if len(blocks) > 1:
            names = [block.title for block in blocks]
            shared = _shared(rows, names) if even else names
            average = [_average_block(blocks, rows, beside, shared, even)] if len(shared) > 1 else []
            blocks = [*average, *rank_blocks(blocks), *blocks]
    return Table(PROTOCOLS[protocol].title + KINDS[kind], CAPTION + (BESIDE if beside else ""), tuple(blocks))


def _place_of_row(name: str) -> tuple[int, bool]:
    """Zero-shot CLIP first, then the methods as their table has them; of each first what changes nothing."""
    titles = [ZERO_SHOT, *(entry.TITLE for entry in METHODS.values())]
    method = method_of(name)
    return titles.index(method) if method in titles else len(titles), not is_plain(name)


def _order(place: Place) -> tuple[int, Place]:
    names = list(DATASETS)
    return names.index(place[0]) if place[0] in names else len(names), place


def _transfer_block(place: Place, rows: Rows, beside: Mapping[str, Mapping[str, Row]]) -> Block:
    """Trained on one data set, a column per target."""
    name, _, columns = place
    heads = {column: TITLES.get(column, column) for column in columns}
    there: dict[str, Row] = {
        method: {heads[column]: cells[column]["accuracy"] for column in columns if column in cells}
        for method, cells in beside.items()
    }
    for row, measured in rows.items():
        if place in measured:
            there[row] = _cells(measured[place], heads)
    return Block(f"trained on {name}", tuple(heads.values()), _arranged(there))


def _arranged(rows: Mapping[str, Row]) -> dict[str, Row]:
    """In order, without the rows that are empty."""
    return {row: cells for row, cells in arrange(rows).items() if cells}


def _dataset_block(name: str, rows: Rows, beside: Mapping[str, Mapping[str, Row]]) -> Block:
    """One data set of base-to-new (base, new, HM) or few-shot (a column per number of shots)."""
    there: dict[str, Row] = {method: _titled(cells.get(name, {})) for method, cells in beside.items()}
    heads: dict[str, None] = {}
    for row, measured in rows.items():
        there[row] = {}
        for place in sorted(place for place in measured if place[0] == name):
            there[row] |= _cells(measured[place], _heads(place))
            heads |= dict.fromkeys(_heads(place).values())
    return Block(name, _sorted_heads(heads), _arranged(there))


def _titled(cells: Row) -> Row:
    return {TITLES.get(column, column): cell for column, cell in cells.items()}


def _heads(place: Place) -> dict[str, str]:
    """Column of the results -> its head in a table."""
    _, shots, columns = place
    return {column: f"{shots} shot{'s' * (shots > 1)}" if shots else TITLES.get(column, column) for column in columns}


def _sorted_heads(heads: Mapping[str, None]) -> tuple[str, ...]:
    return tuple(sorted(heads, key=lambda head: int(head.split()[0]) if SHOTS.fullmatch(head) else 0))


def _cells(measured: Measured, heads: Mapping[str, str]) -> Row:
    """Mean and spread over the seeds; HM's mean is the HM of the means."""
    mean, std = summarize(list(measured.seeds.values()))
    count = 0 if NO_SEED in measured.seeds else len(measured.seeds)
    few = (f"Fewer than {published.SEEDS} seeds ({count}).",) if 0 < count < published.SEEDS else ()
    source = "; ".join(measured.folders)
    seconds = float(np.mean(measured.step_seconds)) if measured.step_seconds else None
    return {
        head: Cell(
            mean[column],
            std[column] if count > 1 else None,
            count,
            measured.notes[column] + few,
            source,
            parameters=measured.parameters,
            step_seconds=seconds,
            competes=not (measured.notes[column] or few),
        )
        for column, head in heads.items()
    }


def _shared(rows: Rows, names: Sequence[str]) -> list[str]:
    """The data sets that give averages of trained rows the most accuracies, of those that some row and column has."""
    of: dict[tuple[str, int, tuple[str, ...]], set[str]] = {}
    for row, measured in rows.items():
        for name, *kind in measured:
            if not row.startswith(ZERO_SHOT):
                of.setdefault((row, *kind), set()).add(name)
    found = list(of.values()) or [set(names)]
    best = max(found, key=lambda one: (len(one) * sum(one <= other for other in found), len(one)))
    return [name for name in names if name in best]


def _average_block(
    blocks: Sequence[Block],
    rows: Rows,
    beside: Mapping[str, Mapping[str, Row]],
    names: Sequence[str],
    even: bool,
) -> Block:
    """Means over some data sets of the other blocks; with `even`, of the rows and columns that have all of them."""
    there: dict[str, Row] = {}
    for method, cells in beside.items():
        there[method] = _titled(_published_average(cells, names))
    for row, measured in rows.items():
        there[row] = {}
        for kind in dict.fromkeys((shots, columns) for _, shots, columns in sorted(measured)):
            parts = {name: measured[name, *kind] for name in names if (name, *kind) in measured}
            if parts and not (even and len(parts) < len(names)):
                there[row] |= _average(parts, _heads(("", *kind)), len(names))
    heads = _sorted_heads(dict.fromkeys(head for block in blocks for head in block.columns))
    which = "" if len(names) == len(blocks) else f" of the {len(blocks)} data sets: {', '.join(names)}"
    return Block(f"{AVERAGE}{len(names)}{which or ' data sets'}", heads, _arranged(there))


def is_average(block: Block) -> bool:
    """Whether a block is over several data sets."""
    return block.title.startswith(AVERAGE)


def _published_average(cells: Mapping[str, Row], names: Sequence[str]) -> Row:
    """As printed over all data sets; over a part of them computed from their rows."""
    if set(names) == set(published.DATASETS.values()):
        return cells.get(published.AVERAGE, {})
    if not all({"base", "new"} <= cells.get(name, {}).keys() for name in names):
        return {}
    base, new = (float(np.mean([cells[name][column].mean for name in names])) for column in ("base", "new"))
    notes = ("Computed here from the published rows of these data sets.",)
    means = {"base": base, "new": new, "hm": harmonic_mean(base, new)}
    return {column: Cell(value, notes=notes, source=str(published.FILE.name)) for column, value in means.items()}


def _average(parts: Mapping[str, Measured], heads: Mapping[str, str], expected: int) -> Row:
    """The mean of the data sets' means; its spread is that of the seeds' averages, if all have the same seeds."""
    means = _mean_row([summarize(list(part.seeds.values()))[0] for part in parts.values()])
    seed_sets = [set(part.seeds) for part in parts.values()]
    seeds = sorted(seed_sets[0]) if all(found == seed_sets[0] for found in seed_sets) else []
    std: dict[str, float] = {}
    if len(seeds) > 1:
        std = summarize([_mean_row([part.seeds[seed] for part in parts.values()]) for seed in seeds])[1]
    partly = (f"Average over {len(parts)} of the {expected} data sets.",) if len(parts) < expected else ()
    single = [_cells(part, heads) for part in parts.values()]
    counts, times = [part.parameters for part in parts.values()], [part.step_seconds for part in parts.values()]
    return {
        head: Cell(
            means[column],
            std.get(column),
            min(cells[head].seeds for cells in single),
            tuple(dict.fromkeys([*partly, *(note for cells in single for note in cells[head].notes)])),
            "; ".join(dict.fromkeys(cells[head].source for cells in single)),
            parameters=tuple(number for count in counts for number in count) if all(counts) else (),
            competes=not partly and all(cells[head].competes for cells in single),
            step_seconds=float(np.mean([np.mean(seconds) for seconds in times])) if all(times) else None,
        )
        for column, head in heads.items()
    }


def _mean_row(rows: Sequence[Scores]) -> Scores:
    mean = {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}
    return mean | ({"hm": harmonic_mean(mean["base"], mean["new"])} if "hm" in mean else {})
