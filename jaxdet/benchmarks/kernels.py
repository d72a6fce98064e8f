"""Kernels and calls that a compiled program starts, counted from its text, and an estimate of its time.

Counted are the instructions of the entry computation that run something, and those of loop bodies times the
rounds of the loop where the compiler knows them. A loop without known rounds, and a conditional, make the
host wait for a value of the device (`host_decisions`); such a body counts once, as does the largest branch.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxdet.benchmarks import hlo
from jaxdet.benchmarks.hlo import Computation, HloProgram, Instruction
from jaxdet.benchmarks.targets import Target

LAUNCH_S = 2e-6  # from one small kernel to the next; 1.5 to 3 us are usual
HOST_S = 10e-6  # a value of the device read by the host before it goes on
REACHED = 0.6  # fraction of a peak that large kernels reach
NETWORK = 50e9  # bytes/s between hosts, of every device: a 400 Gb/s port each

_FREE = {
    *("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "after-all", "partition-id"),
    *("replica-id", "opt-barrier", "add-dependency", "domain", "iota", "broadcast", "reshape"),
}
_COLLECTIVES = {"all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"}
_SLICES = {"gather", "dynamic-slice", "slice"}
# What a fused kernel is called after: the first of these that is in it.
_KINDS = {
    "convolution": ("convolution",),
    "product": ("dot",),
    "sort": ("sort", "topk"),
    "scatter": ("scatter",),
    "reduction": ("reduce", "reduce-window"),
    "gather": ("gather",),
}
_TARGETS = {"convolution": ("conv",), "product": ("gemm", "matmul", "cublas"), "sort": ("sort", "topk")}


class Kernel(NamedTuple):
    """One kernel or library call; figures are those of one round."""

    name: str
    kind: str
    rounds: int  # times it runs in a call of the program
    multiplications: float  # of convolutions and products
    operations: float  # of everything else
    bytes: float  # read and written
    is_half: bool  # convolutions and products in bfloat16 or float16
    of_weights: bool  # computed from weights and constants only, so the same at every call


class Count(NamedTuple):
    """The kernels, host decisions and exchanges of one call of a program."""

    kernels: list[Kernel]
    host_decisions: int  # loops without known rounds, and conditionals
    collectives: dict[str, tuple[int, int]]  # kind -> calls, bytes

    @property
    def launches(self) -> int:
        """Kernels and calls, each as often as it runs."""
        return sum(kernel.rounds for kernel in self.kernels)

    @property
    def of_weights(self) -> int:
        """Kernels that only prepare weights."""
        return sum(kernel.rounds for kernel in self.kernels if kernel.of_weights)

    def by_kind(self) -> dict[str, int]:
        """Launches of each kind, most first."""
        found: Counter[str] = Counter()
        for kernel in self.kernels:
            found[kernel.kind] += kernel.rounds
        return dict(found.most_common())


def count(text: str, weights: tuple[str, ...] = ()) -> Count:
    """The kernels of `Compiled.as_text()`.

    `weights`: beginnings of the names of arguments that stay the same between calls.
    """
    program = hlo.parse(text)
    entry = program.computations[program.entry]
    fixed = _fixed(entry, weights) if weights else set()
    kernels: list[Kernel] = []
    decisions, collectives = 0, {}
    for instruction, computation, rounds in _run(program, program.entry, 1):
        if instruction.opcode in ("while", "conditional"):
            decisions += 1
            continue
        kernel = _kernel(program, instruction, computation, rounds)
        is_fixed = computation is entry and instruction.name in fixed
        kernels.append(kernel._replace(of_weights=is_fixed))
        if kernel.kind == "collective":
            name = instruction.opcode.removesuffix("-start")
            calls, size = collectives.get(name, (0, 0))
            collectives[name] = calls + rounds, size + rounds * _collective_bytes(instruction)
    return Count(kernels, decisions, collectives)


def _run(program: HloProgram, name: str, rounds: int) -> Iterator[tuple[Instruction, Computation, int]]:
    """Instructions that run something, and loops and conditionals that the host decides."""
    computation = program.computations[name]
    for instruction in computation.values():
        opcode, called = instruction.opcode, instruction.called
        if opcode == "while":
            trips = instruction.trips
            if trips is None:
                yield instruction, computation, rounds
            for part in (*called.get("body", ()), *(called.get("condition", ()) if trips is None else ())):
                yield from _run(program, part, rounds * (trips or 1))
        elif opcode == "conditional":
            yield instruction, computation, rounds
            branches = [list(_run(program, branch, rounds)) for branch in called.get("branches", ())]
            yield from max(branches, key=len, default=[])
        elif opcode == "call":
            for part in called.get("to_apply", ()):
                yield from _run(program, part, rounds)
        elif opcode not in _FREE and not opcode.endswith(("-done", "-update")):
            yield instruction, computation, rounds


def _fixed(entry: Computation, weights: tuple[str, ...]) -> set[str]:
    """Names of instructions that come from weights and constants alone, at least one of them a weight."""
    constants, found = set(), set()
    for name, instruction in entry.items():
        if instruction.opcode == "parameter":
            if instruction.source.startswith(weights):
                found.add(name)
        elif all(operand in constants for operand in instruction.operands):
            constants.add(name)
        elif all(operand in constants or operand in found for operand in instruction.operands):
            found.add(name)
    return found


def _kernel(program: HloProgram, instruction: Instruction, computation: Computation, rounds: int) -> Kernel:
    parts = [(instruction, computation)]
    if instruction.opcode in ("fusion", "async-start"):
        parts = list(program.inside(instruction))
    products = operations = 0.0
    is_half = False
    for part, around in parts:
        found = hlo.multiplications(part, around)
        products += found
        if found:
            operand = around[part.operands[0]]
            is_half |= operand.types.startswith(("bf16", "f16"))
        elif part.opcode in ("reduce", "reduce-window", "scatter"):
            operations += sum(around[name].elements for name in part.operands[:1] if name in around)
        elif part.opcode not in _FREE and part.opcode != "fusion":
            operations += part.elements
    kind = _kind(instruction, [part.opcode for part, _ in parts])
    traffic = _traffic(program, instruction, computation)
    return Kernel(instruction.name, kind, rounds, products, operations, traffic, is_half, False)


def _kind(instruction: Instruction, opcodes: list[str]) -> str:
    opcode = instruction.opcode.removesuffix("-start")
    if opcode in _COLLECTIVES:
        return "collective"
    if opcode == "custom-call":
        target = instruction.target.lower()
        for kind, words in _TARGETS.items():
            if any(word in target for word in words):
                return kind
        return "call"
    if opcode == "copy":
        return "copy"
    for kind, names in _KINDS.items():
        if any(name in opcodes for name in names):
            return kind
    moves = set(opcodes) - _FREE - {"transpose", "copy", "convert", "fusion"}
    return "elementwise" if moves else "copy"


def _traffic(program: HloProgram, instruction: Instruction, computation: Computation) -> float:
    """Bytes read and written; of an operand that is only indexed, those that are picked."""
    called = instruction.called.get("calls") or [""]
    inner = program.computations.get(called[0], {}) if instruction.opcode == "fusion" else {}
    by_number = {int(part.operands[0]): name for name, part in inner.items() if part.opcode == "parameter"}
    read = 0.0
    for index, name in enumerate(instruction.operands):
        whole = computation[name].bytes if name in computation else 0
        read += _picked(inner, by_number[index], whole) if index in by_number else whole
    root = next((part for part in inner.values() if part.is_root), instruction)
    written = instruction.bytes
    if root.opcode == "dynamic-update-slice" and len(root.operands) > 1:
        written = inner[root.operands[1]].bytes if inner else written
    return read + written


def _picked(inner: Computation, parameter: str, whole: float) -> float:
    users = [part for part in inner.values() if parameter in part.operands]
    if users and all(p.opcode == "dynamic-update-slice" and p.operands[0] == parameter for p in users):
        return 0
    slices = _slices(inner, parameter)
    return whole if slices is None else min(whole, sum(slices.values()))


def _slices(inner: Computation, name: str) -> dict[str, float] | None:
    """Bytes of the slices that are all a kernel takes of an operand, by range; None if it takes more."""
    found: dict[str, float] = {}
    users = [part for part in inner.values() if name in part.operands]
    for part in users:
        if part.opcode in _SLICES and part.operands[0] == name:
            found[part.range or part.name] = part.bytes
            continue
        # A function of every element, of which slices are taken, is computed for these only.
        is_function = set(part.operands) == {name} and part.elements == inner[name].elements
        deeper = _slices(inner, part.name) if is_function and not part.is_root else None
        if deeper is None:
            return None
        found |= deeper
    return found or None


def _collective_bytes(instruction: Instruction) -> int:
    if instruction.opcode.endswith("-start") and instruction.types.startswith("("):
        return instruction.bytes // 2  # operand and result stand side by side
    return instruction.bytes


def seconds(found: Count, target: Target, num_devices: int = 1, hosts: int = 1) -> float:
    """An estimate of the time of a call: each kernel takes the largest of launch, arithmetic and memory.

    Assumed are `LAUNCH_S`, `HOST_S` for every decision of the host, `REACHED` of all peaks, and for what
    devices exchange a ring over NVLink, or `NETWORK` between hosts, that overlaps with nothing.
    """
    total = found.host_decisions * HOST_S
    for kernel in found.kernels:
        peak = target.tensor_half if kernel.is_half else target.tensor_float32
        arithmetic = 2 * kernel.multiplications / peak + kernel.operations / target.float32
        memory = kernel.bytes / target.memory_bandwidth
        total += kernel.rounds * max(LAUNCH_S, arithmetic / REACHED, memory / REACHED)
    exchanged = sum(size for _, size in found.collectives.values())
    link = target.link_bandwidth if hosts == 1 else NETWORK
    return total + 2 * exchanged * (num_devices - 1) / num_devices / (link * REACHED)


def report(found: Count, target: Target, num_devices: int = 1, hosts: int = 1) -> dict[str, Any]:
    """The count and the estimate as plain values."""
    products = sum(2 * kernel.rounds * kernel.multiplications for kernel in found.kernels)
    traffic = sum(kernel.rounds * kernel.bytes for kernel in found.kernels)
    return {
        "launches": found.launches,
        "by_kind": found.by_kind(),
        "of_weights": found.of_weights,
        "host_decisions": found.host_decisions,
        "collectives": {k: {"calls": n, "bytes": size} for k, (n, size) in found.collectives.items()},
        "gflop_of_products": round(products / 1e9, 3),
        "moved_mib": round(traffic / 2**20, 1),
        "estimated_ms": round(1e3 * seconds(found, target, num_devices, hosts), 4),
    }
