"""Speed and memory of the training step and of the evaluation, beside plain PyTorch: CLIP ViT-B/16, random weights.

    python -m experiments.speed.step --case=50,4,1 --case=500,4,1 --rounds=7

For each case CLASSES,BATCH,SEEDS two processes are set up, the package's and the PyTorch reference's
(`torch_reference.py`; left out without torch, or by --torch=false). They take turns, a step each round, so that a
machine shared with others slows both; medians are printed. `share` is the time that the step's FLOPs (by formula,
`formula.py`) need at the rate of matrix products, measured in every round as well, over the step's time.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from dear_jax.clip import packing
from experiments.speed import formula
from experiments.speed.case import Case
from experiments.speed.worker import PRODUCT, PRODUCTS

EVALUATIONS = ("encode", "encode_in_groups", "one", "job")  # what a worker can evaluate


def main() -> None:
    """Measure every case and print a row for each implementation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", required=True, help="CLASSES,BATCH,SEEDS[,VARIANTS]")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--class_chunk", type=int, default=0)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch", type=json.loads, default=importlib.util.find_spec("torch") is not None)
    parser.add_argument("--evaluation", type=json.loads, default=False, help="also the evaluation beside the encoder")
    parser.add_argument("--json", type=Path, help="append a line of JSON per case")
    arguments = parser.parse_args()
    for text in arguments.case:
        sizes = [int(part) for part in text.split(",")]
        names = ("classes", "batch", "seeds", "variants")
        case = Case(
            **dict(zip(names, sizes, strict=False)),
            dtype=arguments.dtype,
            class_chunk=arguments.class_chunk,
            image_size=arguments.image_size,
        )
        result = measure(case, arguments.rounds, arguments.torch, arguments.evaluation)
        print(describe(case, result), flush=True)
        if arguments.json:
            with arguments.json.open("a") as file:
                file.write(json.dumps({"case": dataclasses.asdict(case), **result}) + "\n")


class Worker:
    """A process that measures when asked."""

    def __init__(self, implementation: str, case: Case):
        command = [sys.executable, "-m", "experiments.speed.worker", f"--implementation={implementation}"]
        command.append(f"--case={json.dumps(dataclasses.asdict(case))}")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self._read()

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The worker ended with exit code {self.process.wait()}; was there enough memory?")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def measure(case: Case, rounds: int, with_torch: bool, evaluation: bool) -> dict[str, Any]:
    """Medians over the rounds, memory, FLOPs and, with torch, the largest relative difference of results."""
    with contextlib.ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        workers = {}
        for name in ("package", "torch") if with_torch else ("package",):
            workers[name] = Worker(name, case)
            stack.callback(workers[name].close)
        taken: dict[str, list[dict[str, float]]] = {}
        package = ["step", "product", *(f"evaluate {what}" for what in EVALUATIONS if evaluation)]
        for number in range(rounds + 1):
            for name, worker in workers.items():
                for command in package if name == "package" else ["step"]:
                    values = worker.ask(command)
                    if number:  # the first round warms up
                        taken.setdefault(f"{name} {command}", []).append(values)
        result: dict[str, Any] = {
            key: {unit: float(np.median([v[unit] for v in values])) for unit in ("seconds", "cpu_seconds")}
            for key, values in taken.items()
        }
        result["compiler"] = workers["package"].said
        for name, worker in workers.items():
            result[f"{name} peak_bytes"] = worker.ask("memory")["peak_bytes"]
        result |= flops(case)
        if with_torch:
            files = {name: f"{folder}/{name}.npz" for name in workers}
            for name, worker in workers.items():
                worker.ask(f"gradients {files[name]}")
            result["difference"] = difference(*(np.load(file) for file in files.values()))
        return result


def flops(case: Case) -> dict[str, float]:
    """FLOPs of a step of all seeds: the package's by formula, and the reference's."""
    ids = case.short_ids()
    ends = (ids == case.config.eos_token_id).argmax(axis=1)
    shared = packing.shared_length(ids, ends)
    packed = packing.pack(ends, shared, ids.shape[1], case.class_chunk)
    one = formula.step_flops(case.method, packed, shared, case.batch, case.variants)
    reference = formula.reference_flops(case.method, case.classes, case.batch)
    return {"package flops": case.seeds * one, "torch flops": case.seeds * case.variants * reference}


def difference(ours: Any, theirs: Any) -> float:
    """The largest of loss and gradients, each relative to its own largest component."""
    return float(max(np.abs(ours[key] - theirs[key]).max() / np.abs(theirs[key]).max() for key in ours.files))


def describe(case: Case, result: dict[str, Any]) -> str:
    """A case in a few lines."""
    images, rate = case.seeds * case.batch, PRODUCTS * 2 * np.prod(PRODUCT, dtype=float)
    said = result["compiler"]
    lines = [
        f"{case.classes} classes, batch {case.batch}, {case.seeds} seeds x {case.variants} variants, {case.dtype}",
        f"  compiler: {said['compile_seconds']:.0f} s, {said['temporary_bytes'] / 2**20:.0f} MiB temporary + "
        f"{said['argument_bytes'] / 2**20:.0f} MiB arguments; {said['chunks']} chunks, {said['rows']} rows",
    ]
    for name in ("package", "torch"):
        if f"{name} step" in result:
            taken, work = result[f"{name} step"], result[f"{name} flops"]
            lines.append(
                f"  {name:8} {taken['seconds']:8.3f} s/step ({taken['cpu_seconds']:.3f} CPU s)  "
                f"{images / taken['seconds']:7.2f} images/s  {result[f'{name} peak_bytes'] / 2**20:7.0f} MiB peak RSS  "
                f"{work / 1e9:8.0f} GFLOP"
            )
    for unit in ("seconds", "cpu_seconds"):
        needed = result["package flops"] * result["package product"][unit] / rate
        taken = result["package step"][unit]
        lines.append(f"  {unit:12} {needed / taken:.2f} of the product rate: {taken / needed:.2f} times its FLOPs")
        if "torch step" in result:
            lines[-1] += f"; torch / package {result['torch step'][unit] / taken:.2f}"
        if "package evaluate job" in result:
            encode, in_groups, one, job = (result[f"package evaluate {name}"][unit] for name in EVALUATIONS)
            lines[-1] += (
                f"; a run's evaluation {encode / one:.2f}, the job's {encode / job:.2f} of the plain encoder "
                f"({in_groups / one:.2f}, {in_groups / job:.2f} of it in groups), images/s"
            )
    if "difference" in result:
        memory = result["package peak_bytes"] / result["torch peak_bytes"]
        lines.append(
            f"  memory / torch's {memory:.2f}; results differ by {result['difference']:.1e} at most (relative)"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
