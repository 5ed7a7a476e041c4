"""Do roles depend on the seed of the pretraining? The embedded CLIP beside others of its kind; the truth is known.

    python -m dear_jax.main --config=configs/pretrain_tiny.py --config.pretrain.seed=1 --workdir=runs/pretrain_1
    python -m experiments.roles.seeds runs/pretrain_1/clip --page=experiments/evidence

writes seeds.md. Every CLIP is analysed as the embedded one is (`configs/find_roles.py`). A head's place means nothing
in another network: what its heads do is counted, whether Concept Entropy and causes agree with the truth is tested in
each, and maps are compared by function (`config.roles.compare`). `weight=variance` and thresholds by chance were chosen
after seeing the embedded CLIP; another seed tests that choice. About five minutes for each CLIP on two CPU cores.
"""

import argparse
import dataclasses
import itertools
import json
import tempfile
from pathlib import Path

import numpy as np

from configs import find_roles
from dear_jax.clip.checkpoints.weights import EMBEDDED, Backbone, load_backbone
from dear_jax.data.world import tasks
from dear_jax.data.world.scenes import NAMES
from dear_jax.report.role_comparison import compare
from dear_jax.report.text_tables import to_markdown
from dear_jax.roles import analysis, concepts, contributions, role_map
from experiments.made_by import made_by, sentence, write_page
from experiments.roles.evidence import (
    FIRST_LAYER,
    SCENES,
    exchanged,
    explain,
    make_options,
    spearman,
    specialists,
    table,
)
from experiments.roles.truth import explained_shares, scenes

(NAME,) = EMBEDDED
SHUFFLES = 20
CLEAR = 0.75  # of a head's variance, explained by one attribute


HEAD = (
    f"tiny CLIPs that differ in the seed of their pretraining alone, layers {FIRST_LAYER} to 7, {SCENES:,} scenes that "
    "no job has seen for the truth."
)


@dataclasses.dataclass(frozen=True)
class OfClip:
    """What there is to say of one CLIP."""

    title: str
    accuracy: dict[str, float]  # zero-shot, of every attribute, 0..1
    role_map: role_map.RoleMap
    shares: np.ndarray  # of the truth, [heads, 6]
    agreement: dict[str, str]
    specialists: list[dict]


def main() -> None:
    """Analyse all of them and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+", type=Path, help="folders that the job pretrain has written")
    parser.add_argument("--page", type=Path, default=Path("runs/seeds"), help="folder of seeds.md")
    options = parser.parse_args()
    found = [look("embedded (seed 0)", EMBEDDED[NAME]), *(look(str(folder), folder) for folder in options.clips)]
    how = sentence(made_by(f"python -m experiments.roles.seeds {' '.join(map(str, options.clips))}"))
    text = "\n\n".join([f"# Do roles depend on the seed of the pretraining?\n\n{how} {HEAD}", *tables(found)]) + "\n"
    write_page(options.page / "seeds.md", text)


def look(title: str, folder: Path) -> OfClip:
    """The analysis of one CLIP, and its truth."""
    backbone = dataclasses.replace(load_backbone(str(folder)), name=NAME)  # it knows the same words
    config = find_roles.get_config()
    with tempfile.TemporaryDirectory() as place:
        found = analysis.analyse(
            backbone,
            tasks.load(config.data.dataset),
            first_layer=FIRST_LAYER,
            attributes=tuple(config.roles.attributes),
            options=make_options(),
            folder=Path(place) / "map",
        )
        split, labels = scenes("evidence", SCENES)
        array = contributions.stream(backbone, split, FIRST_LAYER, folder=Path(place) / "truth", batch_size=50)
        shares = explained_shares(array, labels)
        truth = concepts.entropy(shares / shares.sum(1, keepdims=True))
        return OfClip(
            title,
            json.loads((folder / "evaluation.json").read_text())["accuracy"],
            found.role_map,
            shares,
            agreement(backbone, np.asarray(array), truth, shares),
            specialists(backbone, np.asarray(array), shares),
        )


def agreement(backbone: Backbone, array: np.ndarray, truth: np.ndarray, shares: np.ndarray) -> dict[str, str]:
    """How far Concept Entropy and causes say what the truth says."""
    found = {}
    for weight in concepts.WEIGHTS:
        details = explain(backbone, array, make_options(weight=weight))
        names = np.ravel(details["names"])
        right = np.mean([NAMES[a] == b for a, b in zip(shares.argmax(1), names, strict=True)])
        found[f"Spearman of Concept Entropy with the truth's, {weight}"] = spearman(np.ravel(details["entropy"]), truth)
        found[f"dominant concept is the truth's, {weight}"] = f"{100 * right:.0f} %"
    causes = exchanged(backbone, array, truth, shares)["causes"]
    return found | {row["of"]: row["is"] for row in causes if "Concept" not in row["of"] and "concept" not in row["of"]}


def tables(found: list[OfClip]) -> list[str]:
    """All of the page, with a line before each."""
    columns = ["", *(one.title for one in found)]
    names = list(found[0].accuracy)
    rows = [[f"accuracy, {name}", *(f"{100 * one.accuracy[name]:.1f}" for one in found)] for name in names]
    rows += [[name, *(one.agreement[name] for one in found)] for name in found[0].agreement]
    parts = ["Zero-shot accuracy in percent, and agreement with the truth.", to_markdown(columns, rows)]
    rows = [[name, *(", ".join(clear(one, name)) or "none" for one in found)] for name in NAMES]
    rows.append(["less than half by any", *(str(int((one.shares.max(1) < 0.5).sum())) for one in found)])
    parts += [f"Heads that are {100 * CLEAR:.0f} % and more one attribute, by the truth.", to_markdown(columns, rows)]
    kinds = sorted({role for one in found for row in one.role_map.roles for role in row})
    counts = [[kind, *(str(sum(row.count(kind) for row in one.role_map.roles)) for one in found)] for kind in kinds]
    parts += ["Heads of each role, by the thresholds of the shipped map.", to_markdown(columns, counts)]
    for one in found:
        parts += [f"Who is called a specialist in {one.title}, by what the truth's largest attribute explains.",
                  table(one.specialists)]  # fmt: skip
    parts += ["Maps compared by function: heads are matched such that what their descriptions explain overlaps most.",
              table(list(pairs(found)))]  # fmt: skip
    return parts


def clear(one: OfClip, attribute: str) -> list[str]:
    """Heads of which it explains most, by layer and number."""
    heads = len(one.role_map.roles[0])
    chosen = one.shares[:, NAMES.index(attribute)] >= CLEAR
    return [f"{one.role_map.first_layer + place // heads}.{place % heads}" for place in np.flatnonzero(chosen)]


def pairs(found: list[OfClip]) -> list[dict]:
    """Every two maps: overlap and roles of heads matched by function; and where the other's descriptions mean nothing.

    For that they are dealt out again among its heads, each of which keeps its votes.
    """
    rows = []
    for one, other in itertools.combinations(found, 2):
        first, second = one.role_map.to_dict(), other.role_map.to_dict()
        matched = compare(first, second, other.title)
        dealt = [compare(first, deal(second, seed), other.title) for seed in range(SHUFFLES)]
        by_chance = [100 * np.mean([pair.overlap for pair in of.pairs]) for of in dealt]
        indices = [of.rand_index for of in dealt]
        overlap = 100 * np.mean([pair.overlap for pair in matched.pairs])
        rows.append(
            {
                "maps": f"{one.title}, {other.title}",
                "mean overlap (descriptions dealt out again)": f"{overlap:.0f} % ({np.mean(by_chance):.0f} ± "
                f"{np.std(by_chance):.0f} %)",
                "pairs of one role": f"{matched.alike} of {matched.matched}",
                "adjusted Rand index of the roles": f"{matched.rand_index:.2f} "
                f"({np.mean(indices):.2f} ± {np.std(indices):.2f})",
            }
        )
    return rows


def deal(values: dict, seed: int) -> dict:
    """A map whose heads have each other's descriptions, by chance; not by place, also where it is of the same CLIP."""
    changed = json.loads(json.dumps(values)) | {"fingerprint": f"dealt {seed}"}
    picks = [pick for row in changed["heads"] for head in row for pick in head["descriptions"]]
    whose = [{key: pick[key] for key in ("text", "cluster")} for pick in picks]
    for pick, place in zip(picks, np.random.default_rng(seed).permutation(len(picks)), strict=True):
        pick |= whose[place]
    return changed


if __name__ == "__main__":
    main()
