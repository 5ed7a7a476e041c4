"""What one execution of a compiled program costs one chip: products, bytes, collectives.

In: the text of the program that XLA made for one chip. Out: numbers, with loops counted as often as they run.
Shapes are those after sharding, so that work which every chip repeats is counted on every chip.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from dear_jax.tpu.hlo import Array, Computation, Instruction, Module, parse

# Products in bfloat16 that the matrix units need for one product (jax.lax.Precision: DEFAULT, HIGH, HIGHEST).
PASSES = {"default": 1, "high": 3, "highest": 6}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "ragged-all-to-all", "collective-permute")
_COPIES = ("copy-start", "slice-start")
_FREE = {  # moves nothing by itself; the -done half of a pair is counted at its -start
    *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id"),
    *("while", "call", "conditional", "copy-done", "slice-done", "async-done", "opt-barrier"),
    *(f"{kind}-done" for kind in COLLECTIVES),
}
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclasses.dataclass(frozen=True)
class Collective:
    """Exchanges of one kind among groups of one size, in one execution of the program."""

    kind: str  # one of COLLECTIVES
    group: int  # chips that exchange
    count: int
    bytes: int  # of the results, on one chip
    sent: float  # bytes that a chip must send at least


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one chip and one execution."""

    flops: float  # of matrix products, an addition and a multiplication each
    passes: float  # the same, each product as often as the matrix units repeat it for its precision
    bytes: float  # read from and written to HBM
    collectives: tuple[Collective, ...]
    cycles: float  # by the compiler's own estimates of its fusions; 0 where it gives none
    unknown_loops: tuple[str, ...]  # counted once

    @property
    def sent(self) -> float:
        """Bytes that a chip must send at least, over all collectives."""
        return sum(collective.sent for collective in self.collectives)


def measure(text: str) -> Cost:
    """The cost of a program by the text that `jax.stages.Compiled.as_text` gives."""
    module = parse(text)
    flops = passes = moved = cycles = 0.0
    exchanged: dict[tuple[str, int], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for computation, times in module.executed():
        for instruction in computation.instructions.values():
            for product, repeats in _products(module, computation, instruction):
                flops += times * product
                passes += times * product * repeats
            moved += times * moved_bytes(module, computation, instruction)
            cycles += times * _estimated_cycles(instruction)
            kind = instruction.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                size, group = _collective_size(instruction), _group_size(instruction.attributes)
                row = exchanged[kind, group]
                row[0] += times
                row[1] += times * size
                row[2] += times * size * sent_share(kind, group)
    collectives = tuple(Collective(*key, int(n), int(size), sent) for key, (n, size, sent) in sorted(exchanged.items()))
    return Cost(flops, passes, moved, collectives, cycles, tuple(module.unknown_loops()))


def _products(module: Module, computation: Computation, instruction: Instruction) -> Iterator[tuple[float, int]]:
    """FLOPs and passes of every product in an instruction, inside fusions too."""
    if instruction.opcode in ("dot", "convolution"):
        sides = [computation.operand(instruction, index) for index in (0, 1)]
        left, right = (side.results[0] for side in sides if side is not None)
        count = _dot_flops if instruction.opcode == "dot" else _convolution_flops
        precision = re.search(r"operand_precision=\{(\w+),(\w+)\}", instruction.attributes)
        full = {left.dtype, right.dtype} != {"bf16"}  # bfloat16 is exact in one pass, whatever is asked for
        repeats = max(PASSES[precision[1]], PASSES[precision[2]]) if precision and full else 1
        yield count(left, right, instruction), repeats
    elif instruction.opcode == "fusion":
        fused = module.computations[instruction.called()["calls"][0]]
        for inner in fused.instructions.values():
            yield from _products(module, fused, inner)


def _dot_flops(left: Array, right: Array, instruction: Instruction) -> float:
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
    sizes = [left.shape[int(axis)] for axis in contracted[1].split(",") if axis] if contracted else []
    return 2.0 * math.prod(instruction.results[0].shape) * math.prod(sizes)


def _convolution_flops(left: Array, right: Array, instruction: Instruction) -> float:
    """By the kernel positions that meet an element of the input, as XLA counts.

    A TPU's compiler writes batched products as convolutions with dilated inputs, most of whose positions are holes.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if labels is None:
        raise ValueError(f"convolution without dim_labels: {instruction.name}")
    result = instruction.results[0]
    window = _window(instruction.attributes)
    positions = 1
    for number, axis in enumerate(axis for axis in sorted(labels[3]) if axis.isdigit()):
        positions *= _valid_positions(
            left.shape[labels[1].index(axis)],
            result.shape[labels[3].index(axis)],
            {name: values[number] for name, values in window.items()},
        )
    inputs = right.shape[labels[2].index("i")]
    return 2.0 * positions * inputs * result.shape[labels[3].index("b")] * result.shape[labels[3].index("f")]


def _window(attributes: str) -> dict[str, list[str]]:
    """`window={size=3x8 stride=2x7 pad=0_0x1_1}`: every field's values, per spatial axis."""
    fields = re.search(r"window=\{([^}]*)\}", attributes)
    return {name: value.split("x") for name, value in (f.split("=") for f in (fields[1].split() if fields else []))}


def _valid_positions(inputs: int, outputs: int, window: dict[str, str]) -> int:
    """Pairs of an output and a kernel position, on one axis, that meet an element of the input."""
    size, stride, left, right = (int(window.get(key, 1)) for key in ("size", "stride", "lhs_dilate", "rhs_dilate"))
    low = int(window.get("pad", "0_0").split("_")[0])
    place = np.arange(outputs)[:, None] * stride - low + np.arange(size)[None] * right
    return int(np.count_nonzero((place % left == 0) & (place >= 0) & (place < (inputs - 1) * left + 1)))


def moved_bytes(module: Module, computation: Computation, instruction: Instruction) -> float:
    """Bytes that an instruction reads from and writes to HBM: its operands and results, each once."""
    if instruction.opcode in _FREE or 'custom_call_target="AllocateBuffer"' in instruction.attributes:
        return 0
    if instruction.opcode in _COPIES:  # results: both sides of the copy, of which a slice takes a part, and a context
        sides = instruction.results[:2]
        return min(side.bytes for side in sides) * sum(side.main_memory for side in sides)
    operands = [operand for name in instruction.operands if (operand := computation.instructions.get(name))]
    if instruction.opcode == "fusion":
        fused = module.computations[instruction.called()["calls"][0]]
        read = [_read_in(module, fused, parameter) for parameter in fused.parameters]
        written = _written_by(fused)
    else:
        read = [_read_by(instruction, operand) for operand in operands]
        written = [_written(computation, instruction, result) for result in instruction.results]
    sources = [operand.results[0].main_memory for operand in operands]
    targets = [result.main_memory for result in instruction.results]
    return sum(size for size, slow in zip(read, sources, strict=False) if slow) + sum(
        size for size, slow in zip(written, targets, strict=False) if slow
    )


def _read_by(user: Instruction, operand: Instruction) -> int:
    """Bytes of `operand` that one instruction reads: of a slice only what it takes."""
    first = bool(user.operands) and user.operands[0] == operand.name
    if user.opcode in _SLICES and first:
        return user.results[0].bytes
    if user.opcode == "dynamic-update-slice" and first:
        return 0  # overwritten in place
    return sum(result.bytes for result in operand.results)


def _read_in(module: Module, fused: Computation, parameter: Instruction) -> int:
    """Bytes of a parameter that a fusion reads, at most the whole of it; views and inner fusions are looked through."""
    read = 0
    for user in fused.users[parameter.name]:
        if user.opcode == "bitcast":
            read += _read_in(module, fused, user)
        elif user.opcode == "fusion":
            inner = module.computations[user.called()["calls"][0]]
            read += sum(
                _read_in(module, inner, inner.parameters[index])
                for index, name in enumerate(user.operands)
                if name == parameter.name
            )
        else:
            read += _read_by(user, parameter)
    return min(read, sum(result.bytes for result in parameter.results))


def _written(computation: Computation, instruction: Instruction | None, result: Array) -> int:
    """Bytes that one result writes: of an update in place only the update."""
    while instruction is not None and instruction.opcode == "bitcast":
        instruction = computation.operand(instruction, 0)
    if instruction is not None and instruction.opcode == "dynamic-update-slice":
        update = computation.operand(instruction, 1)
        return update.results[0].bytes if update else result.bytes
    return result.bytes


def _written_by(fused: Computation) -> list[int]:
    """Bytes of every result of a fusion."""
    root = fused.root
    if root.opcode != "tuple":
        return [_written(fused, root, root.results[0])]
    parts = [fused.instructions.get(name) for name in root.operands]
    return [_written(fused, part, result) for part, result in zip(parts, root.results, strict=True)]


def _estimated_cycles(instruction: Instruction) -> int:
    found = re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes)
    return int(found[1]) if found else 0


def _collective_size(instruction: Instruction) -> int:
    """Bytes of the results; the start of an asynchronous collective repeats its operands before them."""
    results = instruction.results
    if instruction.opcode.endswith("-start") and instruction.opcode != "all-reduce-start":
        results = results[len(instruction.operands) : 2 * len(instruction.operands)]
    return sum(result.bytes for result in results)


def _group_size(attributes: str) -> int:
    """Chips of one replica group, in any of the three ways in which it is written."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", attributes)
    if listed:
        return len(listed[1].split(","))
    grid = re.search(r"replica_groups=\[\d+,(\d+)\]", attributes)
    if grid:
        return int(grid[1])
    mesh = re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", attributes)
    if mesh:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'([^']+)'", mesh[2]))
    return 2 if "source_target_pairs" in attributes else 1


def sent_share(kind: str, group: int) -> float:
    """Bytes that a chip must send per byte of the result, with the best algorithm (a ring)."""
    if kind == "all-reduce":
        return 2 * (group - 1) / group
    if kind == "reduce-scatter":
        return group - 1
    return 1.0 if kind == "collective-permute" else (group - 1) / group
