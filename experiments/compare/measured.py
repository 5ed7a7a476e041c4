"""What runs measured, sorted into the rows of tables, and why an accuracy does not compare with a published one."""

import dataclasses
from collections.abc import Iterator, Mapping

from dear_jax.data.protocols import PROTOCOLS
from dear_jax.data.world import tasks
from dear_jax.report.runs import Run, Scores
from dear_jax.setup import departures
from experiments.compare import published
from experiments.compare.settings import adapter_row, zero_shot_row

NO_SEED = ""  # stands for the seed of zero-shot CLIP
# Points. Methods cut the towers at different layers, so that zero-shot CLIP, too, is rounded otherwise in their runs,
# which may turn an image or two; of the smaller test sets that is as much.
ROUNDING = 0.25
OWN = ("folder", "hf")  # data sets of one's own


@dataclasses.dataclass
class Measured:
    """What the runs of one row found on one data set, with one number of shots."""

    data: tuple[str, ...]  # which images and splits
    seeds: dict[str, Scores]
    notes: dict[str, tuple[str, ...]]  # by column
    folders: list[str]
    parameters: tuple[int, ...]  # trainable ones of a seed; empty where they are not known
    step_seconds: list[float]  # of a training step of a seed, in each run that knows


Place = tuple[str, int, tuple[str, ...]]  # data set, shots (0 where they are no columns), columns
Rows = dict[str, dict[Place, Measured]]


def kind_of(run: Run) -> str:
    """Whose images they are: "published" (tables exist), "world" (embedded) or "own"."""
    own = run.config.get("data.dataset", run.dataset) in OWN  # whose results have the name of the folder
    return "world" if run.dataset in tasks.TASKS else "own" if own else "published"


def add_run(run: Run, rows: Rows) -> Iterator[str]:
    """Put a run's accuracies into its rows; yields a sentence for what does not fit there and is left out."""
    place = (_block_name(run), run.shots if PROTOCOLS[run.protocol].shots else 0, tuple(run.zero_shot))
    found = [(zero_shot_row(run), "", {NO_SEED: run.zero_shot})]
    found += [(adapter_row(run, variant), variant, seeds) for variant, seeds in run.variants.items()]
    for name, variant, seeds in found:
        notes = {column: tuple(_notes(run, column, NO_SEED not in seeds)) for column in run.zero_shot}
        parameters = (run.parameters[variant],) if variant in run.parameters else ()
        fresh = Measured(_data(run), {}, notes, [], parameters, [])
        there = rows.setdefault(name, {}).setdefault(place, fresh)
        misfit = _misfit(_data(run), seeds, there)
        if misfit:
            yield f"{run.folder}, row {name!r}: {there.folders[0]} has {misfit}. Give only one of the two."
            continue
        there.seeds |= {seed: scores for seed, scores in seeds.items() if seed not in there.seeds}
        there.folders.append(str(run.folder))
        if variant and run.step_seconds is not None:
            there.step_seconds.append(run.step_seconds)


def _misfit(data: tuple[str, ...], seeds: Mapping[str, Scores], there: Measured) -> str:
    """What keeps accuracies from standing in one row with those that are there; empty if nothing does."""
    if there.data != data:
        return "the same setting on other images or splits"
    for seed in sorted(seeds.keys() & there.seeds.keys()):
        apart = max(abs(value - there.seeds[seed][column]) for column, value in seeds[seed].items())
        if apart > (0 if seed else ROUNDING):
            which = f"seed {seed} of the same setting" if seed else "zero-shot CLIP"
            return f"{which} with other accuracies, by up to {apart:.2f} points"
    return ""


def _data(run: Run) -> tuple[str, ...]:
    """What tells the images and splits of two runs apart."""
    parts = [run.data, *run.data.get("targets", {}).values()]
    return tuple(str(part.get(key)) for part in parts for key in ("source", "splits", "images"))


def _block_name(run: Run) -> str:
    """The data set; images of one's own have their folder's name."""
    return f"folder {run.config.get('data.root', '')}" if kind_of(run) == "own" else run.dataset


def _notes(run: Run, column: str, trained: bool) -> Iterator[str]:
    """Why the accuracies of a column do not compare with published ones."""
    if kind_of(run) != "published":
        return
    targets = run.data.get("targets", {})
    behind = {name: targets[name] for name in targets if column in (name, published.AVERAGE)}
    if trained or not behind:
        behind = {run.dataset: run.data, **behind}
    said = " ".join(data["remark"] for data in behind.values())  # of results of today, the rest as well
    for name, data in behind.items():
        if not data["comparable"]:
            yield f"{name}: {data['remark'] or 'these are not the published images and splits.'}"
    if not departures.is_published(run.backbone) and "the backbone is " not in said:
        yield f"Backbone {run.backbone}; published: openai/{departures.BACKBONE}."
    fewer = run.shots != published.SHOTS and not PROTOCOLS[run.protocol].shots
    if trained and fewer and "shots are " not in said:
        yield f"{run.shots} shots; published: {published.SHOTS}."
