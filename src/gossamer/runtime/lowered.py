"""A network's steps by the choices of a plan."""

from __future__ import annotations

import math
from typing import Any

from gossamer.errors import UserError, nearest
from gossamer.runtime.graph import AnyNode, Graph
from gossamer.runtime.lowering import Candidate, Lowering
from gossamer.runtime.lowering.epilogues import fuse
from gossamer.runtime.lowering.moves import compose, spread
from gossamer.runtime.lowering.views import join
from gossamer.runtime.program import Buffer, Step

MOST_RESIDENT = 1 << 20  # numbers of a weight that stay in memory as the file has them

Lowered = tuple[list[Step], list[Buffer], list[Buffer]]  # steps, inputs, outputs


def lower(graph: Graph, isa: str, choices: dict[str, str], **settings: Any) -> Lowered:
    """Return steps, inputs and outputs for a plan's choices; the first candidate by default."""
    lowering = Lowering(graph, isa, **settings)
    for node in graph.nodes:
        candidates, name = lowering.candidates(node), choices.get(node.output)
        if name is not None and name not in {candidate.name for candidate in candidates}:
            raise UserError(
                f"the plan names the kernel {name!r} for {node.name or node.output!r}, where "
                f"{nearest(name, [candidate.name for candidate in candidates])}; plan again"
            )
        pick(candidates, name).emit()
        release(graph, node)
    return finished(lowering)


def release(graph: Graph, node: AnyNode) -> None:
    """Drop a large weight from memory, which is packed now, if it is mapped from a file."""
    if "weight" in node.store and math.prod(node.store.shape("weight")) > MOST_RESIDENT:
        graph.release()


def finished(lowering: Lowering) -> Lowered:
    graph, values = lowering.graph, lowering.values
    outputs = [lowering.form(values[name], "dense") for name in graph.outputs]
    inputs = [Buffer(name, values[name].forms["dense"].floats) for name in graph.inputs]
    steps = spread(compose(fuse(lowering.steps, outputs), outputs), outputs)
    return (steps if lowering.batched else join(steps, inputs, outputs)), inputs, outputs


def pick(candidates: list[Candidate], name: str | None) -> Candidate:
    return next((c for c in candidates if c.name == name), candidates[0])
