"""What a pod makes of the main jobs, by the compiler of TPUs: the tables of dear_jax/tpu. No TPU is needed.

    python -m experiments.speed.pods --workdir=runs/pods                       # all rows
    python -m experiments.speed.pods --workdir=runs/pods --slices=v5e:8x8      # some

runs `config.job=compile` for every job and slice of 4, 64 and 256 chips (rows that are there are not compiled again; a
row takes one to three minutes on two idle CPU cores), and prints a Markdown table per job.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dear_jax.report.text_tables import to_markdown

SLICES = (
    *("v5e:2x2", "v5e:8x8", "v5e:16x16"),
    *("v5p:2x2x1", "v5p:4x4x4", "v5p:4x8x8"),
    *("v6e:2x2", "v6e:8x8", "v6e:16x16"),
)
BFLOAT16 = "--config.compute.dtype=bfloat16"
JOBS = {
    "ImageNet base-to-new: 500 classes, 3 seeds x 32 images, bfloat16": [
        "--config=configs/base2new.py:imagenet",
        BFLOAT16,
    ],
    "ImageNet, 1000 classes, 1 seed x 256 images, bfloat16": [
        "--config=configs/cross_dataset.py:imagenet",
        "--config.seeds=1",
        "--config.train.batch_size=256",
        BFLOAT16,
    ],
}
COLUMNS = (
    *("slice", "chips used", "class prompts at a time", "peak memory, GiB", "GFLOP", "read and written, GB"),
    *("exchanged, MB", "at least, ms", "bound by", "matrix units, at most", "compiler's estimate, ms"),
    *("matrix units, estimated", "training, at least"),
)


def main() -> None:
    """Compile what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/pods"))
    parser.add_argument("--slices", default=",".join(SLICES), help="those to compile for, with commas")
    parser.add_argument("flags", nargs="*", help="further --config.KEY=VALUE overrides, after --")
    arguments = parser.parse_args()
    for number, (title, flags) in enumerate(JOBS.items()):
        rows = [
            compile_step(arguments.workdir / f"{number}-{name.replace(':', '-')}", name, [*flags, *arguments.flags])
            for name in arguments.slices.split(",")
        ]
        print(f"\n{title}\n\n{to_markdown(COLUMNS, map(cells, rows))}", flush=True)


def compile_step(folder: Path, topology: str, flags: list[str]) -> dict[str, Any]:
    """The account of the train step on one slice."""
    if not (folder / "compile.json").exists():
        job = ["--config.job=compile", f"--config.topology={topology}", "--config.compile.evaluation=false"]
        command = [sys.executable, "-m", "dear_jax.main", *flags, *job, f"--workdir={folder}"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL)
        if done.returncode and not (folder / "compile.json").exists():  # what is refused is a row, too
            raise SystemExit(done.returncode)
    return json.loads((folder / "compile.json").read_text())


def cells(row: dict[str, Any]) -> list[str]:
    """What one step costs one chip of a slice: a row of the table."""
    (step,) = row["programs"]
    start = [row["topology"], f"{step['chips']} of {row['run']['chips']}"]
    if step["refused"]:
        return [*start, f"refused: {step['refused'].split(':')[0]}", *[""] * (len(COLUMNS) - 3)]
    estimated = [f"{1e3 * step['estimated_seconds']:.1f}", f"{step['matrix_units_estimated']:.0%}"]
    return [
        *start,
        f"{step['class_chunk']}" if step["class_chunk"] else "all",
        f"{step['memory']['peak'] / 2**30:.1f}",
        f"{step['flops'] / 1e9:,.0f}",
        f"{step['bytes'] / 1e9:.1f}",
        f"{sum(exchange['sent'] for exchange in step['collectives']) / 1e6:.1f}",
        f"{1e3 * step['bound_seconds']:.1f}",
        step["bound_by"],
        f"{step['matrix_units']:.0%}",
        *(estimated if step["cycles"] else ["", ""]),
        f"{row['run']['seconds']:.2g} s",
    ]


if __name__ == "__main__":
    main()
