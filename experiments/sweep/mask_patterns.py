"""Do masks help on the embedded world? Every mask pattern on several class draws, with the spread.

    python -m experiments.sweep.mask_patterns --workdir=runs/mask_patterns

runs `dear_jax.main` once for every class draw, all patterns and three seeds together (finished runs are not repeated),
and prints two Markdown tables: means over draws and seeds with the difference to the open mask, paired by draw, and its
95 % interval over the draws (Student's t); and the new classes under each way to fuse the paths. Some minutes a draw
on two CPU cores.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import stats

from dear_jax.report.tables import MODES, TITLES, new_classes
from dear_jax.report.text_tables import to_markdown
from experiments.sweep.items import DRAWS

SETTINGS = {
    "roles": "mask.pattern=roles",
    "permuted": "mask.pattern=permuted",
    "layer_wise": "mask.pattern=layer_wise",
    "only_generalization": "mask.pattern=only_generalization",
    "only_attribute": "mask.pattern=only_attribute",
    "open": "mask.pattern=open",
    "isolated": "mask.pattern=isolated",
    "random, seed 0": "mask.pattern=random; mask.seed=0",
    "random, seed 1": "mask.pattern=random; mask.seed=1",
    "open, lambda_reg 0": "mask.pattern=open; loss.reg=0",
}
VARIANTS = " | ".join(f"{name}: {overrides}" for name, overrides in SETTINGS.items())
REFERENCE = "open"
COLUMNS = ("base", "new", "hm")


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/mask_patterns"))
    parser.add_argument("flags", nargs="*", help="further --config.KEY=VALUE overrides, after --")
    arguments = parser.parse_args()
    runs = [run(arguments.workdir, draw, arguments.flags) for draw in DRAWS]
    print(accuracy_table(runs))
    print()
    print(fusion_table(runs))


def run(workdir: Path, draw: str, flags: list[str]) -> dict:
    """The results of one training run of all settings."""
    folder = workdir / draw
    if not (folder / "results.json").exists():
        command = [sys.executable, "-m", "dear_jax.main", f"--config=configs/base2new.py:{draw}"]
        subprocess.run([*command, f"--config.variants={VARIANTS}", *flags, f"--workdir={folder}"], check=True)
    return json.loads((folder / "results.json").read_text())


def accuracy_table(runs: list[dict]) -> str:
    """A row per setting: mean ± population standard deviation over draws and seeds, and the paired difference."""
    reference = {column: draw_means(runs, REFERENCE, column) for column in COLUMNS}
    plain = [spread([run["zero_shot"][column] for run in runs]) for column in COLUMNS]
    titles = [TITLES[column] for column in COLUMNS]
    head = ["mask", *titles, *(f"{title} - {REFERENCE}" for title in titles)]
    rows = [["zero-shot CLIP", *plain, "", "", ""]]
    for name in SETTINGS:
        cells = [spread(all_seeds(runs, name, column)) for column in COLUMNS]
        for column in COLUMNS:
            difference = draw_means(runs, name, column) - reference[column]
            cells.append("" if name == REFERENCE else interval(difference))
        rows.append([name, *cells])
    return to_markdown(head, rows)


def fusion_table(runs: list[dict]) -> str:
    """A row per setting: new classes under each way to fuse, mean ± population standard deviation over draws."""
    rows = []
    for name in SETTINGS:
        fusions = [new_classes(run["variants"][name])["new"] for run in runs]
        cells = [spread([fusion[mode]["mean"] for fusion in fusions]) for mode in MODES]
        rows.append([name, *cells])
    return to_markdown(["mask", *(f"New, {title}" for title in MODES.values())], rows)


def all_seeds(runs: list[dict], name: str, column: str) -> list[float]:
    """One value per draw and seed."""
    return [row[column] for run in runs for row in run["variants"][name]["seeds"].values()]


def draw_means(runs: list[dict], name: str, column: str) -> np.ndarray:
    """One value per draw: the mean over its seeds."""
    return np.array([run["variants"][name]["mean"][column] for run in runs])


def spread(values: list[float]) -> str:
    """Mean ± population standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values):.2f}"


def interval(differences: np.ndarray) -> str:
    """Mean difference and half the width of its 95 % interval."""
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{differences.mean():+.2f} ± {half:.2f}"


if __name__ == "__main__":
    main()
