"""From a node to the kernels that could compute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gossamer.runtime.graph import Node
from gossamer.runtime.lowering import shapes, simple
from gossamer.runtime.lowering.conv import conv
from gossamer.runtime.lowering.eight_bits import in_8_bits, round_
from gossamer.runtime.lowering.forms import Candidate, Forms
from gossamer.runtime.lowering.linear import linear
from gossamer.runtime.lowering.winners import winners

__all__ = ["Candidate", "Lowering"]

# Operations with several kernels to choose from, and those with one way to compute them.
CHOICES: dict[str, Callable[[Forms, Node], Iterator[Candidate]]] = {"conv": conv, "linear": linear}
SINGLE: dict[str, Callable[[Forms, Node], None]] = {
    "winners": winners,
    "round": round_,
    "pool": simple.pool,
    "unary": simple.unary,
    "binary": simple.binary,
    "embed": simple.embed,
    "softmax": simple.softmax,
    "layer_norm": simple.layer_norm,
    "concat": shapes.concat,
    "reshape": shapes.reshape,
    "transpose": shapes.transpose,
    "strided": shapes.strided,
    "matmul": simple.matmul,
}


class Lowering(Forms):
    """Forms, with the ways to compute each node."""

    def candidates(self, node: Node) -> list[Candidate]:
        """The ways to compute a node, at least one."""
        if node.op in CHOICES:
            choices = CHOICES[node.op]
            eight = "step" in node.constants
            return list(in_8_bits(self, node, choices) if eight else choices(self, node))
        emit = SINGLE[node.op]
        return [Candidate(node.op, lambda: emit(self, node))]
