"""8-bit layers in C: integer inputs and weights, 32-bit sums, then a multiplication by steps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from gossamer.runtime.c.tables import number
from gossamer.runtime.graph import DEEPEST, AnyNode, Graph

# One-byte types and their ranges. They may be stored in a block of floats: in C, character types
# may alias any type.
TYPES = {"int8_t": (-128, 127), "uint8_t": (0, 255)}


def rounding(node: AnyNode) -> Any:
    """Return the ``Round`` that is a node's operation or fused into it; None if there is none."""
    return node.operation if node.op == "round" else getattr(node.operation, "rounded", None)


def byte_type(node: AnyNode) -> str | None:
    """Return the one-byte type of a node's output, None if it is not rounded to 8 bits."""
    s = rounding(node)
    fit = (k for k, (low, high) in TYPES.items() if s and low <= s.low and s.high <= high)
    return next(fit, None)


def value_types(graph: Graph) -> dict[str, str]:
    """Return the types of the values stored in bytes: rounded ones read by 8-bit layers only."""

    def for_layers(value: str) -> bool:
        readers = graph.consumers(value)
        return value not in graph.outputs and all(
            (node.op == "reshape" and for_layers(node.output))
            or ("step" in node.constants and math.prod(node.store.shape("weight")[1:]) <= DEEPEST)
            for node in readers
        )

    types: dict[str, str] = {}
    for node in graph.nodes:
        kind = types.get(node.inputs[0]) if node.op == "reshape" else byte_type(node)
        if kind and for_layers(node.output):
            types[node.output] = kind
    return types


def with_rounding_inside(graph: Graph) -> Graph:
    """Return the graph with each ``round`` fused into the 8-bit layer before it, if possible."""
    types = value_types(graph)
    made = {node.output: node for node in graph.nodes}
    inside: dict[str, AnyNode] = {}
    for node in graph.nodes:
        if node.op != "round" or node.output not in types:
            continue
        before = made.get(node.inputs[0])
        single_reader = (
            node.inputs[0] not in graph.outputs and len(graph.consumers(node.inputs[0])) == 1
        )
        if (
            before is not None
            and single_reader
            and "step" in before.constants
            and before.inputs[0] in types
        ):
            inside[before.output] = node
    dropped = {id(node) for node in inside.values()}
    nodes = [
        replace(node, output=into.output, operation=replace(node.operation, rounded=into.operation))
        if (into := inside.get(node.output)) is not None
        else node
        for node in graph.nodes
        if id(node) not in dropped
    ]
    return replace(graph, nodes=nodes)


def input_step(graph: Graph, value: str) -> float:
    """Return the step of a value stored in bytes."""
    made = {node.output: node for node in graph.nodes}
    node = made[value]
    while node.op == "reshape":
        node = made[node.inputs[0]]
    return float(rounding(node).step)


def floats_of(graph: Graph, value: str, types: dict[str, str]) -> int:
    """Return the size of a value in the block of memory, in floats."""
    size = math.prod(graph.shapes[value])
    return -(-size // 4) if value in types else size


def rounding_steps(s: Any) -> list[str]:
    """Return C statements that round a float ``v`` to a whole number of steps, ties to even."""
    return [
        f"v /= {number(s.step)};",
        f"if (!(v > {number(s.low)})) v = {number(s.low)};",  # NaN becomes the lowest
        f"if (v > {number(s.high)}) v = {number(s.high)};",
        "v = (v + 12582912.0f) - 12582912.0f;",  # no room for a fraction beyond 2^23
    ]
