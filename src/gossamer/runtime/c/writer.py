"""State of the C writer: one function per node."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gossamer.runtime.c.int8 import value_types
from gossamer.runtime.c.tables import Tables, number
from gossamer.runtime.graph import AnyNode, Graph, Shape


@dataclass
class Writer:
    """The parts of one C file; ``name`` is the prefix of all its identifiers."""

    graph: Graph
    name: str
    tables: Tables = field(default_factory=Tables)
    functions: list[str] = field(default_factory=list)
    calls: list[tuple[AnyNode, str]] = field(default_factory=list)  # of functions, in order
    scratch: dict[str, int] = field(default_factory=dict)  # floats, by the node's output
    helpers: list[str] = field(default_factory=list)  # functions that several nodes call
    sums: int = 0  # of 32 bits that a layer in 8 bits needs at most, beside the block

    def __post_init__(self) -> None:
        self.types = value_types(self.graph)

    def called(self, node: AnyNode) -> str:
        """Return the name of the function that computes a node."""
        return f"{self.name}_{self.graph.nodes.index(node)}_{node.op}"

    def shape(self, value: str) -> Shape:
        return self.graph.shapes[value]

    def type(self, value: str) -> str:
        return self.types.get(value, "float")

    def size(self, value: str) -> int:
        return math.prod(self.shape(value))

    def image(self, value: str) -> Shape:
        """Return [number, channels, height, width] of images; 1-d ones have height 1."""
        shape = self.shape(value)
        return shape if len(shape) == 4 else (*shape[:2], 1, shape[2])

    def helper(self, text: str) -> None:
        """Add C functions that several nodes call, once; ``NAME`` in ``text`` is the prefix."""
        text = text.replace("NAME", self.name).strip()
        if text not in self.helpers:
            self.helpers.append(text)

    def function(self, node: AnyNode, declared: str, body: str, *, scratch: int = 0) -> None:
        """Add the function of a node; its parameters: x (and x1, ...), y, and ``scratch``."""
        name = self.called(node)
        inputs = ["x", *(f"x{i}" for i in range(1, len(node.inputs)))]
        parameters = [
            f"const {self.type(value)} *{each}"
            for each, value in zip(inputs, node.inputs, strict=True)
        ]
        parameters.append(f"{self.type(node.output)} *y")
        if scratch:
            parameters.append("float *scratch")
            self.scratch[node.output] = scratch
        lines = [f"static void {name}({', '.join(parameters)})", "{"]
        if declared:
            lines.append(f"    int32_t {declared};")
        lines += ["    " + line if line else "" for line in body.strip("\n").split("\n")]
        self.functions.append("\n".join([*lines, "}"]))
        self.calls.append((node, name))


def clipped(low: float, high: float) -> list[str]:
    """Return C statements that clip a float ``v`` to limits; NaN stays NaN."""
    lines = []
    if low != -math.inf:
        lines.append(f"if (v < {number(low)}) v = {number(low)};")
    if high != math.inf:
        lines.append(f"if (v > {number(high)}) v = {number(high)};")
    return lines
