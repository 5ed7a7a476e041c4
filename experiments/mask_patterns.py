"""Do masks help on the embedded world? Every mask pattern on several class draws, with the spread.

    python experiments/mask_patterns.py --workdir=runs/mask_patterns

runs `dear_jax.main` once for every pattern and class draw (three seeds each; finished runs are not repeated), and
prints a Markdown table: means over draws and seeds, and the difference to the open mask, paired by draw, with its 95 %
interval over the draws (Student's t). About a minute a run on two CPU cores.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy import stats

DRAWS = ("world_compositions", *(f"world_compositions_{draw}" for draw in range(1, 5)))
SETTINGS = {
    "roles": ["--config.mask.pattern=roles"],
    "open": ["--config.mask.pattern=open"],
    "isolated": ["--config.mask.pattern=isolated"],
    "random, seed 0": ["--config.mask.pattern=random", "--config.mask.seed=0"],
    "random, seed 1": ["--config.mask.pattern=random", "--config.mask.seed=1"],
    "open, lambda_reg 0": ["--config.mask.pattern=open", "--config.loss.reg=0"],
}
REFERENCE = "open"


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/mask_patterns"))
    parser.add_argument("flags", nargs="*", help="further --config.KEY=VALUE overrides, after --")
    arguments = parser.parse_args()
    results = {
        name: [run(arguments.workdir, name, draw, [*flags, *arguments.flags]) for draw in DRAWS]
        for name, flags in SETTINGS.items()
    }
    print(table(results))


def run(workdir: Path, name: str, draw: str, flags: list[str]) -> dict:
    """The results of one training run."""
    folder = workdir / f"{draw}-{name.replace(', ', '-').replace(' ', '_')}"
    if not (folder / "results.json").exists():
        command = [sys.executable, "-m", "dear_jax.main", f"--config=configs/base2new.py:{draw}"]
        subprocess.run([*command, *flags, f"--workdir={folder}"], check=True)
    return json.loads((folder / "results.json").read_text())


def table(results: dict[str, list[dict]]) -> str:
    """A row per setting: mean ± population standard deviation over draws and seeds, and the paired difference."""
    reference = {column: draw_means(results[REFERENCE], column) for column in ("base", "new", "hm")}
    zero_shot = [run["zero_shot"] for run in results[REFERENCE]]
    plain = [spread([row[column] for row in zero_shot]) for column in ("base", "new", "hm")]
    lines = [
        f"| mask | Base | New | HM | Base - {REFERENCE} | New - {REFERENCE} | HM - {REFERENCE} |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        f"| zero-shot CLIP | {' | '.join(plain)} | | | |",
    ]
    for name, runs in results.items():
        cells = [spread(all_seeds(runs, column)) for column in ("base", "new", "hm")]
        for column in ("base", "new", "hm"):
            difference = draw_means(runs, column) - reference[column]
            cells.append("" if name == REFERENCE else interval(difference))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def all_seeds(runs: list[dict], column: str) -> list[float]:
    """One value per draw and seed."""
    return [row[column] for run in runs for row in run["variants"]["default"]["seeds"].values()]


def draw_means(runs: list[dict], column: str) -> np.ndarray:
    """One value per draw: the mean over its seeds."""
    return np.array([run["variants"]["default"]["mean"][column] for run in runs])


def spread(values: list[float]) -> str:
    """Mean ± population standard deviation."""
    return f"{np.mean(values):.2f} ± {np.std(values):.2f}"


def interval(differences: np.ndarray) -> str:
    """Mean difference and half the width of its 95 % interval."""
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    return f"{differences.mean():+.2f} ± {half:.2f}"


if __name__ == "__main__":
    main()
