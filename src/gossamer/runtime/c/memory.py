"""Memory of the C code: one static block with a layout computed in advance."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.runtime.c.int8 import floats_of, value_types
from gossamer.runtime.graph import AnyNode, Graph

# Operations that read each number before they write the one in its place.
IN_PLACE = ("winners", "round", "unary", "binary", "softmax", "layer_norm")


@dataclass
class Span:
    """``size`` floats in use from node ``first`` to node ``last``; ``at`` is their offset."""

    size: int
    first: int
    last: int
    at: int = -1


def planned(graph: Graph, scratch: dict[str, int]) -> tuple[dict[str, str], dict[str, int], int]:
    """Lay out the memory block.

    A reshaped value shares its input's memory, and so does the result of an in-place operation.

    Args:
        graph: the network.
        scratch: floats that a node, by its output, needs while it runs.

    Returns:
        The address of every value as a C expression, the offset of every node's scratch, and the
        size of the block, in floats.
    """
    types = value_types(graph)
    last = {value: i for i, node in enumerate(graph.nodes) for value in node.inputs}
    places = {value: f"in{i}" for i, value in enumerate(graph.inputs)}
    for i, value in enumerate(graph.outputs):
        places.setdefault(value, f"out{i}")
    owner: dict[str, str] = {value: value for value in graph.inputs}
    spans: dict[str, Span] = {}
    for i, node in enumerate(graph.nodes):
        before = owner[node.inputs[0]]
        if node.output in places:
            owner[node.output] = node.output
        elif node.op == "reshape" or (
            node.output not in types and _replaces(graph, node, i, spans.get(before))
        ):
            owner[node.output] = before
        else:
            owner[node.output] = node.output
            spans[node.output] = Span(floats_of(graph, node.output, types), i, i)
        span = spans.get(owner[node.output])
        if span is not None:
            span.last = max(span.last, last.get(node.output, i))
    temporary = {name: Span(size, i, i) for i, node in enumerate(graph.nodes)
                 if (size := scratch.get(name := node.output, 0))}  # fmt: skip
    total = _packed([*spans.values(), *temporary.values()])
    for value, root in owner.items():
        if value not in places:
            places[value] = f"memory + {spans[root].at}" if root in spans else places[root]
    return places, {name: span.at for name, span in temporary.items()}, total


def _replaces(graph: Graph, node: AnyNode, i: int, span: Span | None) -> bool:
    """Whether the result of a node may overwrite its first input, which is stored in ``span``."""
    return (
        node.op in IN_PLACE
        and span is not None
        and span.last == i
        and graph.shapes[node.inputs[0]] == graph.shapes[node.output]
    )


def _packed(spans: list[Span]) -> int:
    """Set every span's lowest free offset, the largest span first; return the total size."""
    laid: list[Span] = []
    for span in sorted(spans, key=lambda s: -s.size):
        span.at = 0
        for other in sorted(laid, key=lambda s: s.at):
            together = other.first <= span.last and span.first <= other.last
            if together and other.at < span.at + span.size and span.at < other.at + other.size:
                span.at = other.at + other.size
        laid.append(span)
    return max((span.at + span.size for span in spans), default=0)
