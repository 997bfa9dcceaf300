"""From a node to the kernels that could compute it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gossamer.runtime.graph import Node
from gossamer.runtime.lowering import elementwise, layout_ops
from gossamer.runtime.lowering.conv import conv
from gossamer.runtime.lowering.int8 import in_8_bits, round_
from gossamer.runtime.lowering.kwinners import winners
from gossamer.runtime.lowering.layouts import Candidate, Forms
from gossamer.runtime.lowering.linear import linear

__all__ = ["Candidate", "Lowering"]

# Operations with several kernels to choose from, and those with one way to compute them.
CHOICES: dict[str, Callable[[Forms, Node], Iterator[Candidate]]] = {"conv": conv, "linear": linear}
SINGLE: dict[str, Callable[[Forms, Node], None]] = {
    "winners": winners,
    "round": round_,
    "pool": elementwise.pool,
    "unary": elementwise.unary,
    "binary": elementwise.binary,
    "embed": elementwise.embed,
    "softmax": elementwise.softmax,
    "layer_norm": elementwise.layer_norm,
    "concat": layout_ops.concat,
    "reshape": layout_ops.reshape,
    "transpose": layout_ops.transpose,
    "strided": layout_ops.strided,
    "matmul": elementwise.matmul,
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
