"""Are the roles that Concept Entropy finds those that the heads have? On the embedded world, where the truth is known.

    python -m experiments.roles.evidence --workdir=runs/role_evidence

prints Markdown tables and writes evidence.json: what each attribute explains of each head's contribution and how well
it can be decoded linearly; the rank correlation of Concept Entropy with the entropy of the explained variance;
who is called a specialist by each rule; what heads carry of each attribute when two scenes exchange them; accuracies
with ever more heads ablated, and when the heads of a role, or one head, are; the stability of the roles. About ten
minutes on two CPU cores.
"""

import argparse
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.metrics import adjusted_rand_score

from configs import base, find_roles
from dear_jax.clip.checkpoints.weights import Backbone, load_backbone
from dear_jax.data import prompts, splits
from dear_jax.data.image_dataset import ImageSplit
from dear_jax.data.world import captions, tasks
from dear_jax.data.world.scenes import NAMES
from dear_jax.report.text_tables import to_markdown
from dear_jax.roles import ablation, analysis, concepts, contributions, role_map, sentences, textspan
from dear_jax.roles import bank as banks
from dear_jax.roles import curves as curve_of
from dear_jax.roles.options import Options
from dear_jax.setup import values
from experiments.roles.truth import explained_shares, probe_accuracy, scenes
from experiments.sweep.items import DRAWS

FIRST_LAYER = 5
SCENES = 4000  # of the truth: half to fit probes, half to test them
ABLATION_SCENES = 1000  # per attribute
SAMPLE = 1000  # images of a repetition
REPETITIONS = 5


def main() -> None:
    """All parts, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/role_evidence"))
    workdir = parser.parse_args().workdir
    workdir.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone("embedded")
    shipped = role_map.load(role_map.EMBEDDED)
    array, labels = truth_contributions(backbone, workdir)
    shares, decoded = explained_shares(array, labels), probe_accuracy(array, labels)
    truth = concepts.entropy(shares / shares.sum(1, keepdims=True))
    evidence = {
        "shares": shares.tolist(),
        "decoded": decoded.tolist(),
        "correlation": correlations(backbone, array, truth, shares),
        "specialists": specialists(backbone, array, shares),
        **exchanged(backbone, array, truth, shares),
        "curves": curves(backbone, array, truth),
        "ablation": ablations(backbone, shipped, array),
        "stability": stability(backbone, shipped, workdir),
    }
    (workdir / "evidence.json").write_text(json.dumps(evidence, indent=1))
    print(head_table(shipped, shares, decoded, truth))
    for name in ("correlation", "specialists", "causes", "carried", "curves", "ablation", "stability"):
        print(f"\n{name}\n{table(evidence[name])}")


def truth_contributions(backbone: Backbone, workdir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Contributions `[N, n, H, d]` to scenes that no job has seen, and their labels `[N, 6]`."""
    split, labels = scenes("evidence", SCENES)
    folder = workdir / "truth"
    return contributions.stream(backbone, split, FIRST_LAYER, folder=folder, batch_size=50), labels


def make_options(**changes: object) -> Options:
    """Those of configs/find_roles.py, with changes."""
    return dataclasses.replace(values.read(Options, find_roles.get_config().roles), **changes)


def explain(backbone: Backbone, array: np.ndarray, options: Options, keep: np.ndarray | None = None) -> dict:
    """The analysis of contributions at hand, with a part of the bank."""
    attributes = tuple(base.get_config().roles.attributes)
    texts, anchors = analysis.load_texts(options, backbone, attributes)
    texts = texts if keep is None else tuple(texts[row] for row in keep)
    encoder = sentences.choose(options.sentence_encoder, backbone)
    details = analysis.explain(backbone, array, texts, anchors, encoder, options)
    names = [[details["clusters"][head["cluster"]]["name"] for head in row] for row in details["heads"]]
    return details | {"names": names, "roles": analysis.assign(details, attributes)}


def correlations(backbone: Backbone, array: np.ndarray, truth: np.ndarray, shares: np.ndarray) -> list[dict]:
    """Spearman's correlation of Concept Entropy and the truth's entropy over heads, with bootstrap intervals."""
    rows = []
    for encoder in ("lexicon", "text_tower"):
        for weight in concepts.WEIGHTS:
            for count in (6, 20):
                options = make_options(weight=weight, sentence_encoder=encoder, descriptions=count)
                found = explain(backbone, array, options)
                bits = np.ravel(found["entropy"])
                named = sum(cluster["name"] != "" for cluster in found["clusters"])
                right = np.mean(
                    [NAMES[a] == b for a, b in zip(shares.argmax(1), np.ravel(found["names"]), strict=True)]
                )
                rows.append(
                    {
                        "sentence encoder": encoder,
                        "weight": weight,
                        "descriptions": found["settings"]["descriptions_used"],
                        "clusters (named)": f"{len(found['clusters'])} ({named})",
                        "Spearman [95 %]": spearman(bits, truth),
                        "entropy min / median / max": " / ".join(
                            f"{v:.2f}" for v in (bits.min(), np.median(bits), bits.max())
                        ),
                        "dominant concept is the truth's": f"{100 * right:.0f} %",
                    }
                )
    return rows


def specialists(backbone: Backbone, array: np.ndarray, shares: np.ndarray) -> list[dict]:
    """Who is called a specialist by each rule of votes and thresholds, beside the truth.

    The truth: the largest attribute explains at least this share of a head's variance.
    """
    rows = []
    largest, attribute = shares.max(1), [NAMES[column] for column in shares.argmax(1)]
    groups = {"75 % and more": largest >= 0.75, "50 to 75 %": (largest >= 0.5) & (largest < 0.75)}
    groups["less than 50 %"] = largest < 0.5
    for weight, thresholds in itertools.product(concepts.WEIGHTS, ("quantile", "chance")):
        found = explain(backbone, array, make_options(weight=weight, thresholds=thresholds))
        roles, names = np.ravel(found["roles"]), np.ravel(found["names"])
        special = np.array([role == role_map.OTHER or role.startswith("attribute:") for role in roles])
        right = np.array([a == b for a, b in zip(names, attribute, strict=True)])
        rows.append(
            {"weight": weight, "thresholds": thresholds}
            | {name: f"{(special & group).sum()} of {group.sum()}" for name, group in groups.items()}
            | {"of the truth's concept": f"{(special & right).sum()} of {special.sum()}"}
            | {"texture": ", ".join(f"{100 * largest[head]:.0f} %: {roles[head].removeprefix('attribute:')}"
                                    for head in np.argsort(-largest) if attribute[head] == "texture")}
        )  # fmt: skip
    return rows


def spearman(first: np.ndarray, second: np.ndarray, samples: int = 2000) -> str:
    """The correlation with its percentile interval over resampled heads."""
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(first), (samples, len(first)))
    values = [stats.spearmanr(first[d], second[d]).statistic for d in draws if len(set(first[d])) > 1]
    low, high = np.percentile(values, [2.5, 97.5])
    return f"{stats.spearmanr(first, second).statistic:.2f} [{low:.2f}, {high:.2f}]"


def exchanged(backbone: Backbone, array: np.ndarray, truth: np.ndarray, shares: np.ndarray) -> dict[str, list[dict]]:
    """Do the truth and the roles predict what heads cause? Exchanges between scenes, head by head and in a summary."""
    split, _ = scenes("evidence", SCENES)
    details = analysis.exchange(backbone, array, split, banks.embedded_anchors(), make_options())
    found = np.reshape(details["causes"]["carried"], (len(shares), -1))
    positive = np.maximum(found, 0)
    cause = concepts.entropy(positive / positive.sum(1, keepdims=True))
    largest, same = shares.max(1), found.argmax(1) == shares.argmax(1)
    summary = {
        "Spearman of the causes' entropy with the truth's [95 %]": spearman(cause, truth),
        "largest cause is the truth's attribute": f"{100 * same.mean():.0f} %",
        "of heads that are 75 % and more of it": f"{100 * same[largest >= 0.75].mean():.0f} %",
    }
    for weight in concepts.WEIGHTS:
        details = explain(backbone, array, make_options(weight=weight))
        alike = np.array([NAMES[a] == b for a, b in zip(found.argmax(1), np.ravel(details["names"]), strict=True)])
        summary |= {
            f"Spearman with Concept Entropy, {weight}": spearman(cause, np.ravel(details["entropy"])),
            f"largest cause is the main concept, {weight}": f"{100 * alike.mean():.0f} %",
        }
    heads = array.shape[2]
    rows = [
        {"head": f"{FIRST_LAYER + place // heads}.{place % heads}"}
        | {name: f"{100 * value:.1f}" for name, value in zip(NAMES, row, strict=True)}
        for place, row in enumerate(found)
    ]
    total = {"head": "all of them"} | {name: f"{100 * v:.0f}" for name, v in zip(NAMES, found.sum(0), strict=True)}
    return {"causes": [{"of": name, "is": value} for name, value in summary.items()], "carried": [*rows, total]}


def curves(backbone: Backbone, array: np.ndarray, truth: np.ndarray) -> list[dict]:
    """Area between the curves of ever more ablated heads, from the lowest and from the highest score on, in points.

    Positive: the heads with a high score are needed. In brackets what two random orders differ by.
    """
    images, layers, heads, _ = array.shape
    flat = array.reshape(images, layers * heads, -1)
    count, shape = layers * heads, (layers, heads)
    scores = {
        f"Concept Entropy ({weight})": np.ravel(explain(backbone, array, make_options(weight=weight))["entropy"])
        for weight in concepts.WEIGHTS
    }
    scores |= {"the truth's entropy": truth, "variance": np.trace(textspan.moments(flat).covariance, axis1=1, axis2=2)}
    rows: dict[str, dict] = {name: {"score": name} for name in (*scores, "logit attribution")}
    column = {name: place for place, name in enumerate(NAMES)}
    labels = scenes("evidence", SCENES)[1]
    for name, runs in ablation_runs().items():
        found: dict[str, list] = {score: [] for score in rows}
        spread = []
        for images_of, classes in runs:
            text = sentences.encode_texts(backbone, prompts.prompts(classes, tasks.TEMPLATE))
            if name in column:  # the world's scenes have labels of each attribute, of classes they have none
                scores["logit attribution"] = curve_of.attribution(flat, labels[:, column[name]], text)
            here = {score: np.argsort(-values, kind="stable") for score, values in scores.items()}
            sets = curve_of.sets({score: order.tolist() for score, order in here.items()}, shape)
            measured = ablation.effects(
                backbone, images_of, text, first_layer=FIRST_LAYER, means=ablation.means(array),
                ablated=np.concatenate(list(sets.values())), batch_size=50,
            )  # fmt: skip
            summary = curve_of.summarize(curve_of.points(count), list(sets), measured.accuracy)["scores"]
            for score, of_score in summary.items():
                found[score].append(of_score["area"])
                spread.append(of_score["random_area"])
        scores.pop("logit attribution", None)
        for score, areas in found.items():
            rows[score][name] = f"{np.mean(areas):+.1f} (± {np.mean(spread):.1f})" if areas else ""
    return list(rows.values())


def ablations(backbone: Backbone, shipped: role_map.RoleMap, array: np.ndarray) -> list[dict]:
    """Accuracy without the heads of each role: base, new, and each attribute by its own prompts, on shifted scenes."""
    roles = shipped.roles
    kinds = sorted({role for row in roles for role in row})
    means = ablation.means(array)
    groups = ablation.each_role(roles, kinds)
    everything = np.ones((1, *groups.shape[1:]), bool)
    sizes = groups.sum((1, 2))
    controls = [ablation.random_sets(int(size), groups.shape[1:]) for size in sizes]
    sets = np.concatenate([ablation.each_head(roles), everything, groups, *controls])
    heads = groups[0].size
    results = {}
    for name, runs in ablation_runs().items():
        results[name] = np.mean(
            [
                ablation.effects(
                    backbone,
                    split,
                    sentences.encode_texts(backbone, prompts.prompts(classes, tasks.TEMPLATE)),
                    first_layer=FIRST_LAYER,
                    means=means,
                    ablated=sets,
                    batch_size=50,
                ).accuracy
                for split, classes in runs
            ],
            axis=0,
        )
    rows = [{"ablated": "nothing", "heads": 0} | {name: f"{r[0]:.1f}" for name, r in results.items()}]
    drops = {name: r[1 : heads + 1] - r[0] for name, r in results.items()}
    rows.append(
        {"ablated": "one head: least, median, largest loss", "heads": 1}
        | {name: f"{d.max():+.1f} / {np.median(d):+.1f} / {d.min():+.1f}" for name, d in drops.items()}
    )
    rows.append({"ablated": "all", "heads": heads} | {name: f"{r[heads + 1]:.1f}" for name, r in results.items()})
    for index, (kind, size) in enumerate(zip(kinds, sizes, strict=True)):
        start = heads + 2 + len(kinds) + index * ablation.CONTROLS
        rows.append(
            {"ablated": kind, "heads": int(size)}
            | {
                name: f"{r[heads + 2 + index]:.1f} ({r[start : start + ablation.CONTROLS].mean():.1f} ± "
                f"{r[start : start + ablation.CONTROLS].std():.1f})"
                for name, r in results.items()
            }
        )
    return rows


def ablation_runs() -> dict[str, list[tuple[ImageSplit, tuple[str, ...]]]]:
    """Test images and class names: base and new of every class draw, and each attribute."""
    runs: dict[str, list] = {"base": [], "new": []}
    for draw in DRAWS:
        dataset = tasks.load(draw)
        for name, classes in zip(("base", "new"), splits.base_new(dataset.train.labels), strict=True):
            part = dataset.keep_classes(classes)
            runs[name].append((part.test, part.class_names))
    split, labels = scenes("ablation", ABLATION_SCENES, tasks.SHIFT)
    for column, name in enumerate(NAMES):
        runs[name] = [(ImageSplit(labels[:, column], split.load), captions.attribute_phrases(name))]
    return runs


def stability(backbone: Backbone, shipped: role_map.RoleMap, workdir: Path) -> list[dict]:
    """Adjusted Rand index of the roles of 24 heads, between repetitions that differ in one thing."""
    shown = [scenes(f"stability/{seed}", SAMPLE)[0] for seed in range(REPETITIONS)]
    arrays = [
        contributions.stream(backbone, split, FIRST_LAYER, folder=workdir / f"stability_{seed}", batch_size=50)
        for seed, split in enumerate(shown)
    ]
    images = tasks.load(find_roles.get_config().data.dataset).train
    pool = contributions.stream(backbone, images, FIRST_LAYER, folder=workdir / "shipped", batch_size=50)
    draws = [np.sort(np.random.default_rng(seed).permutation(len(pool))[:SAMPLE]) for seed in range(REPETITIONS)]
    size = len(analysis.load_texts(make_options(), backbone, shipped.attributes)[0])
    halves = [half for seed in range(3) for half in np.split(np.random.default_rng(seed).permutation(size), 2)]
    rows = []
    for weight, thresholds in itertools.product(concepts.WEIGHTS, ("quantile", "chance")):
        options = make_options(weight=weight, thresholds=thresholds)
        rule = {"weight": weight, "thresholds": thresholds}
        whole = explain(backbone, arrays[0], options)["roles"]
        by_images = [explain(backbone, array, options)["roles"] for array in arrays]
        by_seed = [explain(backbone, pool[draw], options)["roles"] for draw in draws]
        by_bank = [explain(backbone, arrays[0], options, np.sort(half))["roles"] for half in halves]
        rows += [
            rule | {"what differs": f"{SAMPLE:,} other images", "roles": rand_index(by_images)},
            rule | {"what differs": f"seed, {SAMPLE:,} of {len(pool):,}", "roles": rand_index(by_seed)},
            rule | {"what differs": "the other half of the bank", "roles": rand_index(by_bank)},
            rule
            | {
                "what differs": f"{SAMPLE:,} images, not {len(pool):,}",
                "roles": rand_index([explain(backbone, pool, options)["roles"], whole]),
            },
        ]
    by_cause = [cause_roles(backbone, array, split) for array, split in zip(arrays, shown, strict=True)]
    rule = {"weight": "by cause", "thresholds": "quantile"}
    return [*rows, rule | {"what differs": f"{SAMPLE:,} other images", "roles": rand_index(by_cause)}]


def cause_roles(backbone: Backbone, array: np.ndarray, split: ImageSplit) -> role_map.Roles:
    """Roles by what heads carry between the images of a split."""
    details = analysis.exchange(backbone, array, split, banks.embedded_anchors(), make_options(by="cause"))
    return analysis.assign(details | {"settings": {"by": "cause"}}, tuple(base.get_config().roles.attributes))


def rand_index(tables: list) -> str:
    """Mean and least over all pairs."""
    flat = [["".join(role) for row in table for role in row] for table in tables]
    values = [adjusted_rand_score(a, b) for place, a in enumerate(flat) for b in flat[:place]]
    same = [np.mean([x == y for x, y in zip(a, b, strict=True)]) for place, a in enumerate(flat) for b in flat[:place]]
    return f"ARI {np.mean(values):.2f} (least {min(values):.2f}), {100 * np.mean(same):.0f} % of heads alike"


def head_table(shipped: role_map.RoleMap, shares: np.ndarray, decoded: np.ndarray, truth: np.ndarray) -> str:
    """A row per head: explained variance and probe accuracy of each attribute, in percent."""
    rows = []
    for place, (share, probe) in enumerate(zip(shares, decoded, strict=True)):
        layer, head = divmod(place, len(shipped.roles[0]))
        cells = {name: f"{100 * s:.0f} / {p:.0f}" for name, s, p in zip(NAMES, share, probe, strict=True)}
        rows.append(
            {"head": f"{shipped.first_layer + layer}.{head}", "role": shipped.roles[layer][head]}
            | {"Concept Entropy": f"{shipped.details['entropy'][layer][head]:.2f}", "truth's": f"{truth[place]:.2f}"}
            | cells
        )
    return table(rows)


def table(rows: list[dict]) -> str:
    """Markdown."""
    return to_markdown(list(rows[0]), [[str(value) for value in row.values()] for row in rows])


if __name__ == "__main__":
    main()
