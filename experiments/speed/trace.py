"""Where the time of a training step goes: a `jax.profiler` trace of it, summed up by kind of operation.

    python -m experiments.speed.trace --case=50,4,1 --case=500,4,1 --dtype=bfloat16 --steps=10

For each case the step is compiled and warmed up, then traced. Each operation of the program has the kind of what is
inside it: a fusion with a matrix product in it is a matrix product. Time of an operation is without that of the
operations inside it, so the kinds sum up to the time in which the device, or on a CPU any thread of it, was at work.
"""

import collections
import dataclasses
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dear_jax.tpu import hlo
from experiments.speed import arguments
from experiments.speed.case import Case
from experiments.speed.worker import PackageWorker

PRODUCTS, ATTENTION, REDUCTIONS = "matrix products", "attention by cuDNN", "softmax, norms, other reductions"
ELEMENTWISE, COPIES, LOOPS = "elementwise", "copies", "loops, branches and calls"
BETWEEN, OTHERS = "between devices", "others"
OPCODES = {
    BETWEEN: ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
    PRODUCTS: ("dot", "convolution"),
    REDUCTIONS: ("reduce", "reduce-window", "sort"),
    LOOPS: ("while", "conditional"),
}
MOVES = {
    *("parameter", "constant", "copy", "copy-start", "copy-done", "transpose", "bitcast", "reshape", "slice", "tuple"),
    *("dynamic-slice", "dynamic-update-slice", "concatenate", "pad", "gather", "broadcast", "iota"),
    "get-tuple-element",
}
LIBRARIES = {ATTENTION: r"cudnn.*fmha|fmha|flash", PRODUCTS: r"gemm|matmul|cublas|conv|dot"}


class Event(NamedTuple):
    """One execution of an operation, in nanoseconds."""

    start: float
    duration: float
    operation: str


def main() -> None:
    """Trace every case and print a table for each."""
    parser = arguments.of_cases(__doc__)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--shown", type=int, default=5, help="operations that take most")
    parser.add_argument("--json", type=Path, help="append a line of JSON per case")
    options = parser.parse_args()
    for case in arguments.cases(options):
        result = measure(case, options.steps)
        print(describe(case, result, options.shown), flush=True)
        arguments.keep({"case": dataclasses.asdict(case), **result}, options.json)


def measure(case: Case, steps: int) -> dict[str, Any]:
    """Seconds per step: by the clock, by kind of operation, and by operation."""
    worker = PackageWorker(case)
    worker.step("2")
    module = hlo.parse(worker.update.as_text())
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            taken = worker.step(str(steps))["seconds"]
        (path,) = Path(folder).rglob("*.xplane.pb")
        lines = operations(jax.profiler.ProfileData.from_file(str(path)))
    by_operation: collections.Counter[str] = collections.Counter()
    for events in lines:
        for operation, duration in own_times(events):
            by_operation[operation] += duration / 1e9 / steps
    of = {name: one for part in module.computations.values() for name, one in part.instructions.items()}
    by_kind: collections.Counter[str] = collections.Counter()
    for operation, seconds in by_operation.items():
        by_kind[kind(module, of[operation]) if operation in of else _outside(operation)] += seconds
    return {
        "device": jax.devices()[0].device_kind,
        "steps": steps,
        "seconds": taken,
        "by_kind": dict(by_kind.most_common()),
        "by_operation": dict(by_operation.most_common(50)),
    }


def operations(data: Any) -> list[list[Event]]:
    """Executions of a program's operations in a trace, for each line of it: a stream of a device, or a thread."""
    found = []
    for plane in data.planes:
        of_device = plane.name.startswith("/device:")
        for line in plane.lines:
            events = []
            for event in line.events:
                operation = dict(event.stats).get("hlo_op", "")
                if operation or (of_device and event.name.startswith(("Memcpy", "Memset"))):
                    events.append(Event(event.start_ns, event.duration_ns, str(operation or event.name)))
            found.append(events)
    return found


def own_times(events: Iterable[Event]) -> list[tuple[str, float]]:
    """Operation and duration of each event, less that of the events within it."""
    found: list[list[Any]] = []
    open_ones: list[tuple[float, int]] = []  # end, place in `found`
    for event in sorted(events, key=lambda one: (one.start, -one.duration)):
        while open_ones and open_ones[-1][0] <= event.start:
            open_ones.pop()
        if open_ones:
            found[open_ones[-1][1]][1] -= event.duration
        open_ones.append((event.start + event.duration, len(found)))
        found.append([event.operation, event.duration])
    return [(operation, max(0.0, duration)) for operation, duration in found]


def kind(module: hlo.Module, instruction: hlo.Instruction) -> str:
    """What an operation is, by the instructions in it."""
    inner = _inner(module, instruction)
    opcodes = {one.opcode for one in inner}
    if instruction.opcode in OPCODES[LOOPS]:
        return LOOPS
    targets = " ".join(one.attributes for one in inner if one.opcode == "custom-call").lower()
    named = "".join(re.findall(r'custom_call_target="([^"]*)"', targets))
    for name, pattern in LIBRARIES.items():
        if re.search(pattern, named):
            return name
    for name in (BETWEEN, PRODUCTS, REDUCTIONS):
        if any(opcode.removesuffix("-start").removesuffix("-done") in OPCODES[name] for opcode in opcodes):
            return name
    if instruction.opcode == "call":
        return LOOPS
    if opcodes - {"fusion"} <= MOVES:
        return COPIES
    return OTHERS if opcodes & {"custom-call", "rng-bit-generator", "scatter"} else ELEMENTWISE


def _inner(module: hlo.Module, instruction: hlo.Instruction) -> list[hlo.Instruction]:
    """The instruction and, of a fusion or a call, those of what it calls."""
    found = [instruction]
    for attribute, names in instruction.called().items():
        if attribute == "calls" or instruction.opcode == "call":
            for name in names:
                if name in module.computations:
                    for one in module.computations[name].instructions.values():
                        found += _inner(module, one)
    return found


def _outside(operation: str) -> str:
    return COPIES if operation.startswith(("Memcpy", "Memset", "copy")) else OTHERS


def describe(case: Case, result: dict[str, Any], shown: int) -> str:
    """A case in a table."""
    at_work = sum(result["by_kind"].values())
    lines = [
        f"{case.method}: {case.classes} classes, batch {case.batch}, {case.seeds} seeds, {case.dtype}, on "
        f"{result['device']}: {1000 * result['seconds']:.2f} ms/step by the clock, {1000 * at_work:.2f} ms at work"
    ]
    for name, seconds in result["by_kind"].items():
        lines.append(f"  {1000 * seconds:9.3f} ms  {seconds / at_work:6.1%}  {name}")
    for operation, seconds in list(result["by_operation"].items())[:shown]:
        lines.append(f"    {1000 * seconds:7.3f} ms  {operation}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
