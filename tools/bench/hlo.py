"""Kernels of a program that XLA compiled for a GPU, and the bytes that each moves, counted in its text."""

from __future__ import annotations

import dataclasses
import math
import re

BANDWIDTH, LAUNCH = 4.3e12, 2.5e-6  # bytes/s measured on an H200, seconds of a kernel at least
SIZES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "u16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8}
# Instructions that are no kernels.
FREE = {
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "call", "while", "conditional", "after-all",
    "partition-id", "opt-barrier", "add-dependency",
}  # fmt: skip
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%([\w.\-]+) = (.+?) ([a-z][\w\-]*)\((.*)$")
_ARRAY = re.compile(r"(pred|[suf]\d+|bf16)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One instruction of the device; a name, what kind of kernel it is, and the bytes of its operands and results."""

    name: str
    kind: str
    bytes: int

    @property
    def floor(self) -> float:
        """The least time in seconds."""
        return max(self.bytes / BANDWIDTH, LAUNCH)


def array_bytes(text: str) -> int:
    """Bytes of all arrays in a type; workspaces (a flat u8 result) left out."""
    total = 0
    for kind, shape in _ARRAY.findall(text):
        sides = [int(n) for n in shape.split(",") if n]
        if not (kind == "u8" and len(sides) == 1):
            total += SIZES[kind] * math.prod(sides)
    return total


def kernels(hlo: str) -> list[Kernel]:
    """The kernels of a compiled program's text: the entry computation and what it calls, loops once."""
    computations: dict[str, list[str]] = {}
    entry, current = "", None
    for line in hlo.splitlines():
        head = re.match(r"^(ENTRY )?%([\w.\-]+) \(.*\{$", line)
        if head:
            current = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line)

    def visit(name: str) -> list[Kernel]:
        found, types = [], {}
        for line in computations[name]:
            if not (match := _INSTRUCTION.match(line)):
                continue
            own, kind, operation, rest = match.groups()
            types[own] = kind
            if operation in ("call", "while", "conditional"):
                for inner in re.findall(r"(?:to_apply|body|calls|called_computations=\{)=?%([\w.\-]+)", rest):
                    found += visit(inner)
            if operation in FREE or operation.endswith("-done"):
                continue
            operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
            moved = array_bytes(kind) + sum(array_bytes(types.get(operand, "")) for operand in operands)
            target = re.search(r'custom_call_target="([^"]+)"', rest)
            found.append(Kernel(own, target[1] if target else operation, moved))
        return found

    return visit(entry)
