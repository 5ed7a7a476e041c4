"""A compiled program's text (HLO) in; its instructions, and how often each is executed, out.

XLA's own cost analysis counts the body of a loop once, and our layers are scanned: here loops count as often as they
run. Only what `program_cost.py` needs is read. The text's grammar: openxla.org/xla/operation_semantics.
"""

import dataclasses
import functools
import math
import re
from collections import defaultdict

BITS = {"pred": 8, "bf16": 16} | {f"{kind}{bits}": bits for kind in "fsuc" for bits in (2, 4, 8, 16, 32, 64, 128)}
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_LINE = re.compile(r"\s+(ROOT )?%?([\w.-]+) = (.*)")
_HEAD = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\{$")
_CALLED = re.compile(r"(calls|to_apply|body|condition|branch_computations|true_computation|false_computation)=")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class Array:
    """One array: the result of an instruction, or a part of it."""

    dtype: str  # HLO's name: f32, bf16, pred, ...
    shape: tuple[int, ...]
    main_memory: bool = True  # in HBM; False: in a memory on the chip (VMEM, SMEM, ...)

    @property
    def bytes(self) -> int:
        """Size without padding; tokens and opaque values have none."""
        return math.prod(self.shape) * BITS.get(self.dtype, 0) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    results: tuple[Array, ...]  # one, or those of a tuple
    operands: tuple[str, ...]  # names; for `constant` and `parameter` what stands in the parentheses
    attributes: str  # the rest of the line
    root: bool

    def called(self) -> dict[str, list[str]]:
        """Computations that it calls, by the attribute that names them."""
        found: dict[str, list[str]] = {}
        for match in _CALLED.finditer(self.attributes):
            rest = self.attributes[match.end() :]
            names = rest[1 : rest.index("}")] if rest.startswith("{") else re.split(r"[,\s]", rest, maxsplit=1)[0]
            found[match[1]] = [name.strip().lstrip("%") for name in names.split(",")]
        return found


@dataclasses.dataclass(frozen=True)
class Computation:
    """A named list of instructions, in the order in which they are scheduled."""

    name: str
    instructions: dict[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """The instruction whose result is the computation's."""
        return next(instruction for instruction in self.instructions.values() if instruction.root)

    @functools.cached_property
    def parameters(self) -> list[Instruction]:
        """Its parameters in order."""
        found = [i for i in self.instructions.values() if i.opcode == "parameter"]
        return sorted(found, key=lambda parameter: int(parameter.operands[0]))

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Who reads an instruction's result."""
        found: dict[str, list[Instruction]] = defaultdict(list)
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return found

    def operand(self, instruction: Instruction, index: int) -> Instruction | None:
        """The instruction that makes an operand; None where there is no such operand."""
        return self.instructions.get(instruction.operands[index]) if index < len(instruction.operands) else None


@dataclasses.dataclass(frozen=True)
class Module:
    """A whole program, of one device."""

    computations: dict[str, Computation]
    entry: str

    def trip_count(self, loop: Instruction) -> int | None:
        """How often a `while` runs: as XLA noted it, or the constant that its counter is compared with; else None.

        `lax.scan` counts from 0 in steps of 1.
        """
        noted = _TRIPS.search(loop.attributes)
        if noted:
            return int(noted[1])
        condition = self.computations[loop.called()["condition"][0]]
        limits = [i for i in condition.instructions.values() if i.opcode == "constant" and i.results[0].shape == ()]
        compares = any("direction=LT" in i.attributes for i in condition.instructions.values())
        return int(limits[0].operands[0]) if compares and len(limits) == 1 else None

    def executed(self) -> list[tuple[Computation, int]]:
        """Computations that are run instruction by instruction, not as part of a fusion, and how often.

        A loop of unknown length counts once, and of a conditional every branch counts: `unknown_loops` tells.
        """
        times: dict[str, int] = defaultdict(int)

        def visit(name: str, count: int) -> None:
            times[name] += count
            for instruction in self.computations[name].instructions.values():
                if instruction.opcode in ("while", "call", "conditional"):
                    trips = (self.trip_count(instruction) or 1) if instruction.opcode == "while" else 1
                    for names in instruction.called().values():
                        for called in names:
                            visit(called, count * trips)

        visit(self.entry, 1)
        return [(self.computations[name], count) for name, count in times.items()]

    def unknown_loops(self) -> list[str]:
        """Names of loops whose length the text does not tell."""
        return [
            instruction.name
            for computation, _ in self.executed()
            for instruction in computation.instructions.values()
            if instruction.opcode == "while" and self.trip_count(instruction) is None
        ]


def parse(text: str) -> Module:
    """Read what `jax.stages.Compiled.as_text` gives.

    Raises:
        ValueError: no entry computation: not the text of a program.
    """
    computations: dict[str, Computation] = {}
    entry = ""
    instructions: dict[str, Instruction] | None = None
    for line in text.splitlines():
        head = _HEAD.match(line)
        if head:
            instructions = {}
            computations[head[2]] = Computation(head[2], instructions)
            entry = head[2] if head[1] else entry
        elif instructions is not None and (match := _LINE.match(line)):
            instruction = _instruction(match[2], match[3], root=bool(match[1]))
            instructions[instruction.name] = instruction
    if not entry:
        raise ValueError("expected the text of a compiled program, found no ENTRY computation")
    return Module(computations, entry)


def _instruction(name: str, text: str, root: bool) -> Instruction:
    """`TYPE opcode(operands), attributes`, where TYPE is an array or a tuple in parentheses."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    results = tuple(
        Array(match[1], tuple(map(int, filter(None, match[2].split(",")))), "S(" not in (match[3] or ""))
        for match in _ARRAY.finditer(text[:end])
    )
    start = text.index("(", end)
    close = _closing(text, start)
    operands = re.sub(r"/\*.*?\*/", "", text[start + 1 : close])
    # An operand may be written with its type before it, with commas in its braces.
    names = re.findall(r"%([\w.-]+)", operands) or [part.strip() for part in operands.split(",")]
    return Instruction(name, text[end:start].strip(), results, tuple(names), text[close + 1 :], root)


def _closing(text: str, start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}")
