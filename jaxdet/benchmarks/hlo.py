"""The text of a compiled XLA program, read into computations, instructions and shapes."""

import json
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) (?:\(.*)?.*\{$")
_ASSIGNMENT = re.compile(r"^\s+(ROOT )?%?([\w.-]+) = ")
_OPCODE = re.compile(r"\s*([\w-]+)\(")
_NAME = re.compile(r"%([\w.-]+)")
_SHAPE = re.compile(r"\b(pred|bf16|[fsuc]\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(calls|to_apply|condition|body|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_SOURCE = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_RANGE = re.compile(r"(?:^|[ ,])(slice=\{[^}]*\})")
_DIM_LABELS = re.compile(r"dim_labels=\w+_(\w+)->")


class Instruction(NamedTuple):
    """One instruction: `types` and `attributes` are text as the compiler writes it."""

    name: str
    types: str  # of its result, such as `f32[4,256]{1,0}` or a tuple of these
    opcode: str
    operands: tuple[str, ...]  # names of instructions of the same computation, or the number of a parameter
    attributes: str
    is_root: bool

    @property
    def bytes(self) -> int:
        """Bytes of the result, all parts of a tuple."""
        return sum(size_of(kind) * math.prod(shape) for kind, shape in shapes(self.types))

    @property
    def elements(self) -> int:
        """Elements of the result, all parts of a tuple."""
        return sum(math.prod(shape) for _, shape in shapes(self.types))

    @property
    def target(self) -> str:
        """The target of a custom call, "" of others."""
        found = _TARGET.search(self.attributes)
        return found[1] if found else ""

    @property
    def source(self) -> str:
        """The traced operation, or the argument in the place of a parameter; "" if it is not noted."""
        found = _SOURCE.search(self.attributes)
        return found[1].replace("\\'", "'") if found else ""

    @property
    def range(self) -> str:
        """Range of its operand that a slice takes, "" of others."""
        found = _RANGE.search(self.attributes)
        return found[1] if found else ""

    @property
    def trips(self) -> int | None:
        """Rounds of a loop whose number the compiler knows, else None."""
        found = _TRIPS.search(self.attributes)
        return int(found[1]) if found else None

    @property
    def called(self) -> dict[str, list[str]]:
        """Names of the computations it runs, by role; those of a conditional have the role `branches`."""
        found: dict[str, list[str]] = {}
        for role, name in _CALLED.findall(self.attributes):
            found.setdefault("branches" if role.endswith("_computation") else role, []).append(name)
        branches = _BRANCHES.search(self.attributes)
        if branches:
            found["branches"] = [name.strip().lstrip("%") for name in branches[1].split(",")]
        return found


Computation = dict[str, Instruction]


class HloProgram(NamedTuple):
    """A module: its computations by name, instructions in order."""

    computations: dict[str, Computation]
    entry: str

    def inside(self, instruction: Instruction) -> Iterator[tuple[Instruction, Computation]]:
        """All instructions that a fused `instruction` stands for, at any depth."""
        for names in instruction.called.values():
            for name in names:
                computation = self.computations.get(name, {})
                for inner in computation.values():
                    yield inner, computation
                    if inner.opcode in ("fusion", "call"):
                        yield from self.inside(inner)


def parse(text: str) -> HloProgram:
    """The program of `Compiled.as_text()`; raises ValueError for text without an entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if current is None:
            header = _HEADER.match(line)
            if header and not line.startswith("HloModule"):
                current = computations[header[2]] = {}
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        else:
            instruction = _instruction(line)
            if instruction is not None:
                current[instruction.name] = instruction
    if not entry:
        raise ValueError("no entry computation in the text of the program")
    return HloProgram(computations, entry)


def _instruction(line: str) -> Instruction | None:
    start = _ASSIGNMENT.match(line)
    if start is None:
        return None
    at = start.end()
    types_end = _closing(line, at) if line[at] == "(" else line.index(" ", at)
    opcode = _OPCODE.match(line, types_end)
    if opcode is None:
        return None
    end = _closing(line, opcode.end() - 1)
    inside = line[opcode.end() : end]
    operands = (inside.rstrip(")"),) if opcode[1] == "parameter" else tuple(_NAME.findall(inside))
    return Instruction(start[2], line[at:types_end], opcode[1], operands, line[end:], bool(start[1]))


def _closing(line: str, at: int) -> int:
    """Index behind the parenthesis that closes the one at `at`."""
    depth = 0
    for index in range(at, len(line)):
        depth += (line[index] == "(") - (line[index] == ")")
        if depth == 0:
            return index + 1
    return len(line)


def shapes(types: str) -> list[tuple[str, tuple[int, ...]]]:
    """Element type and shape of each array that `types` names."""
    return [(kind, tuple(int(n) for n in sides.split(",") if n)) for kind, sides in _SHAPE.findall(types)]


def size_of(kind: str) -> int:
    """Bytes of an element of a type such as `bf16`."""
    if kind == "pred":
        return 1
    digits = re.findall(r"\d+", kind)
    return max(1, int(digits[0]) // 8)


def multiplications(instruction: Instruction, computation: Computation) -> float:
    """Multiplications of a convolution or a matrix product; 0 for anything else."""
    operands = [computation[name] for name in instruction.operands if name in computation]
    results = shapes(instruction.types)
    if len(operands) < 2 or not results:
        return 0
    kind = instruction.opcode
    first, second = (shapes(o.types)[0][1] if shapes(o.types) else () for o in operands[:2])
    labels = _DIM_LABELS.search(instruction.attributes)
    if labels and (kind == "convolution" or "conv" in instruction.target):
        largest = max((shape for _, shape in results), key=math.prod)
        if "Backward" in instruction.target:  # the result, or the second operand, is the gradient
            return _of_gradient(instruction, labels[1], first, second, largest)
        return math.prod(largest) * math.prod(second) / second[labels[1].index("o")]
    if kind == "dot":
        contracted = _CONTRACTED.search(instruction.attributes)
        axes = [int(n) for n in contracted[1].split(",") if n] if contracted else []
        return math.prod(results[0][1]) * math.prod(first[a] for a in axes)
    if "gemm" in instruction.target or "matmul" in instruction.target:
        return _of_library_product(instruction, first, results[0][1])
    return 0


def _of_gradient(instruction, labels, first, second, result) -> float:
    """A gradient takes as many multiplications as the convolution itself."""
    if "Filter" in instruction.target:  # operands: input and gradient of the output; result: the kernel
        return math.prod(second) * math.prod(result) / result[labels.index("o")]
    return math.prod(first) * math.prod(second) / second[labels.index("o")]


def _of_library_product(instruction, first, result) -> float:
    found = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.attributes)
    axes = [int(n) for n in json.loads(f"[{found[1]}]")] if found else [len(first) - 1]
    return math.prod(result) * math.prod(first[a] for a in axes)
