"""Speed and memory of the training step and of the evaluation, beside plain PyTorch: CLIP ViT-B/16, random weights.

    python -m experiments.speed.step --case=50,4,1 --case=500,4,1 --rounds=7
    python -m experiments.speed.step --method=mmrl --method=coop --dtype=bfloat16 --case=50,4,1

For each method, dtype and case CLASSES,BATCH,SEEDS processes are set up: the package's, for DeAR that of the PyTorch
reference (`torch_reference.py`; left out without torch, or by --torch=false), and whatever --beside names. They take
turns, a step each round, so that a machine shared with others slows all; medians are printed. `share` is the time that
the step's FLOPs need at the rate of matrix products of the same dtype, measured in every round as well, over the step's
time. DeAR's FLOPs are those of a formula (`formula.py`), the others' are counted on what is asked of the compiler
(`dear_jax/tpu/flops.py`): products from which no result comes do not count, and what is computed again to save memory
does.

--beside=NAME=COMMAND is any program that speaks as `worker.py` does and knows `step COUNT` and `memory`; the command
may have {method}, {dtype}, {classes} and {batch} in it. One that ends instead is said and left out. On a device that
works beside the processor, let --steps=10 or more follow one another before the clock stops.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dear_jax.clip import packing
from dear_jax.methods.dear.model import DeAR
from experiments.speed import formula
from experiments.speed.arguments import DTYPES, keep
from experiments.speed.case import METHODS, Case

EVALUATIONS = ("encode", "encode_in_groups", "one", "job")  # what a worker can evaluate
PACKAGE, TORCH = "package", "torch"  # names of workers
REFERENCE = "dear"  # the method that `torch_reference.py` is


def main() -> None:
    """Measure every case and print a row for each implementation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", action="append", choices=METHODS, help="dear if none is given")
    parser.add_argument("--case", action="append", required=True, help="CLASSES,BATCH,SEEDS[,VARIANTS]")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="float32 if none is given")
    parser.add_argument("--class_chunk", type=int, default=0)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="that follow one another in a round")
    parser.add_argument("--torch", type=json.loads, default=importlib.util.find_spec("torch") is not None)
    parser.add_argument("--beside", action="append", default=[], help="NAME=COMMAND")
    parser.add_argument("--at_once", type=int, default=1, help="cases whose processes are set up together")
    parser.add_argument("--evaluation", type=json.loads, default=False, help="also the evaluation beside the encoder")
    parser.add_argument("--json", type=Path, help="append a line of JSON per case")
    arguments = parser.parse_args()
    cases = [
        Case(
            **dict(zip(("classes", "batch", "seeds", "variants"), map(int, text.split(",")), strict=False)),
            dtype=dtype,
            class_chunk=arguments.class_chunk,
            image_size=arguments.image_size,
            method=method,
        )
        for text in arguments.case
        for dtype in arguments.dtype or ["float32"]
        for method in arguments.method or [REFERENCE]
    ]
    beside = dict(text.split("=", 1) for text in arguments.beside)
    failed = False
    for first in range(0, len(cases), arguments.at_once):
        some = cases[first : first + arguments.at_once]
        with contextlib.ExitStack() as stack:
            started = [stack.enter_context(Workers(commands(case, arguments.torch, beside))) for case in some]
            for workers in started:
                workers.wait()
            for case, workers in zip(some, started, strict=True):
                try:
                    with workers:
                        result = measure(case, workers, arguments.rounds, arguments.steps, arguments.evaluation)
                except WorkerError as error:
                    print(f"{title(case)}\n  {error}", flush=True)
                    failed = True
                    continue
                print(describe(case, result), flush=True)
                keep({"case": dataclasses.asdict(case), **result}, arguments.json)
    sys.exit(int(failed))


class WorkerError(RuntimeError):
    """A worker has ended."""


class Worker:
    """A process that measures when asked."""

    def __init__(self, command: Sequence[str]):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command: str) -> dict[str, Any]:
        """The answer to a command.

        Raises:
            WorkerError: there is none.
        """
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """The next line of its output: the first says that it is ready.

        Raises:
            WorkerError: there is none.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"the worker ended with exit code {self.process.wait()}; was there enough memory?")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process, once or more often."""
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.process.communicate()  # which knows of broken pipes


def commands(case: Case, with_torch: bool, beside: dict[str, str]) -> dict[str, list[str]]:
    """What the workers of a case are started by, by name, the package's first."""
    known = [PACKAGE, *([TORCH] if with_torch and case.method == REFERENCE else [])]
    own = [sys.executable, "-m", "experiments.speed.worker", f"--case={json.dumps(dataclasses.asdict(case))}"]
    others = {name: shlex.split(text.format_map(dataclasses.asdict(case))) for name, text in beside.items()}
    return {name: [*own, f"--implementation={name}"] for name in known} | others


class Workers(contextlib.AbstractContextManager["Workers"]):
    """The processes of a case, by name; leaving the context ends them."""

    def __init__(self, commands: dict[str, list[str]]):
        self._started = {name: Worker(command) for name, command in commands.items()}
        self.said: dict[str, dict[str, Any]] = {}
        self.failed: dict[str, WorkerError] = {}

    def wait(self) -> None:
        """Until all are ready, or have ended."""
        for name, worker in self._started.items():
            if answer := self._try(name, worker):
                self.said[name] = answer

    def _try(self, name: str, worker: Worker, command: str = "") -> dict[str, Any] | None:
        try:
            return worker.ask(command) if command else worker.answer()
        except WorkerError as error:
            self.failed[name] = error
            return None

    @property
    def names(self) -> list[str]:
        """Those that have not ended."""
        return [name for name in self._started if name not in self.failed]

    def ask(self, name: str, command: str) -> dict[str, Any] | None:
        """The answer of one to a command; None of one beside the package's own that has ended.

        Raises:
            WorkerError: the package's own has ended.
        """
        answer = None if name in self.failed else self._try(name, self._started[name], command)
        if PACKAGE in self.failed:
            raise self.failed[PACKAGE]
        return answer

    def __exit__(self, *exception: object) -> None:
        for worker in self._started.values():
            worker.close()


def measure(case: Case, workers: Workers, rounds: int, steps: int, evaluation: bool) -> dict[str, Any]:
    """Medians over the rounds, memory, FLOPs and, with torch, the largest relative difference of results.

    Raises:
        WorkerError: the package's own process has ended.
    """
    taken: dict[str, list[dict[str, float]]] = {}
    of_package = ["product", *(f"evaluate {what}" for what in EVALUATIONS if evaluation)]
    asked = [(name, f"step {steps}") for name in workers.names] + [(PACKAGE, command) for command in of_package]
    for number, (name, command) in itertools.product(range(rounds + 1), asked):
        values = workers.ask(name, command)
        if number and values is not None:  # the first round warms up
            taken.setdefault(f"{name} {command.removesuffix(f' {steps}')}", []).append(values)
    result: dict[str, Any] = {
        key: {unit: float(np.median([v[unit] for v in values])) for unit in ("seconds", "cpu_seconds")}
        for key, values in taken.items()
    }
    result["package product"]["flops"] = taken["package product"][0]["flops"]
    result["said"] = workers.said
    for name in workers.names:
        if memory := workers.ask(name, "memory"):
            result[f"{name} memory"] = memory
    result |= flops(case, workers.said[PACKAGE]["flops"])
    if TORCH in workers.names:
        with tempfile.TemporaryDirectory() as folder:
            files = {name: f"{folder}/{name}.npz" for name in (PACKAGE, TORCH)}
            if all(workers.ask(name, f"gradients {file}") for name, file in files.items()):
                result["difference"] = difference(*(np.load(file) for file in files.values()))
    result["failed"] = {name: str(error) for name, error in workers.failed.items()}
    return result


def flops(case: Case, counted: float) -> dict[str, Any]:
    """FLOPs of a step of all seeds: of the reference's method by formula, of others what was counted."""
    if case.method != REFERENCE:
        return {"package flops": counted, "flops by": "count"}
    ids, method = case.short_ids(), case.program.method
    assert isinstance(method, DeAR)
    ends = (ids == case.config.eos_token_id).argmax(axis=1)
    shared = packing.shared_length(ids, ends)
    packed = packing.pack(ends, shared, ids.shape[1], case.class_chunk)
    one = formula.step_flops(method, packed, shared, case.batch, case.variants)
    reference = formula.reference_flops(method, case.classes, case.batch)
    return {
        "package flops": case.seeds * one,
        "torch flops": case.seeds * case.variants * reference,
        "flops by": "formula",
    }


def difference(ours: Any, theirs: Any) -> float:
    """The largest of loss and gradients, each relative to its own largest component."""
    return float(max(np.abs(ours[key] - theirs[key]).max() / np.abs(theirs[key]).max() for key in ours.files))


def title(case: Case) -> str:
    """A case in a line."""
    return (
        f"{case.method}: {case.classes} classes, batch {case.batch}, {case.seeds} seeds x {case.variants} variants, "
        f"{case.dtype}"
    )


def describe(case: Case, result: dict[str, Any]) -> str:
    """A case in a few lines."""
    said, images = result["said"][PACKAGE], case.seeds * case.batch
    lines = [
        f"{title(case)}, on {said['device']}",
        f"  compiler: {said['compile_seconds']:.0f} s, {said['temporary_bytes'] / 2**20:.0f} MiB temporary + "
        f"{said['argument_bytes'] / 2**20:.0f} MiB arguments; {said['chunks']} chunks, {said['rows']} rows",
    ]
    names = [key.removesuffix(" step") for key in result if key.endswith(" step")]
    for name in names:
        taken, memory = result[f"{name} step"], result.get(f"{name} memory")
        line = f"  {name:8} {1000 * taken['seconds']:10.2f} ms/step ({1000 * taken['cpu_seconds']:.2f} CPU ms)  "
        line += f"{images / taken['seconds']:7.2f} images/s"
        if memory:
            where = "on the device" if memory["of_device"] else "RSS"
            line += f"  {memory['peak_bytes'] / 2**20:7.0f} MiB peak {where}"
        if f"{name} flops" in result:
            line += f"  {result[f'{name} flops'] / 1e9:8.0f} GFLOP"
        lines.append(line)
    counted = f"by {result['flops by']}"
    if result["flops by"] == "formula":
        counted += f"; counted {said['flops'] / 1e9:.0f} GFLOP"
    product = result["package product"]
    for unit in ("seconds", "cpu_seconds"):
        needed = result["package flops"] * product[unit] / product["flops"]
        taken = result["package step"][unit]
        lines.append(
            f"  {unit:12} {needed / taken:.2f} of the product rate: {taken / needed:.2f} times its FLOPs ({counted})"
        )
        for name in names[1:]:
            lines[-1] += f"; {name} / package {result[f'{name} step'][unit] / taken:.2f}"
        if "package evaluate job" in result:
            encode, in_groups, one, job = (result[f"package evaluate {name}"][unit] for name in EVALUATIONS)
            lines[-1] += (
                f"; a run's evaluation {encode / one:.2f}, the job's {encode / job:.2f} of the plain encoder "
                f"({in_groups / one:.2f}, {in_groups / job:.2f} of it in groups), images/s"
            )
    for name in names[1:]:
        if f"{name} memory" in result:
            memory = result["package memory"]["peak_bytes"] / result[f"{name} memory"]["peak_bytes"]
            lines.append(f"  memory / {name}'s {memory:.2f}")
    if "difference" in result:
        lines[-1] += f"; results differ by {result['difference']:.1e} at most (relative)"
    lines += [f"  {name}: {error}" for name, error in result["failed"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
