"""Layers in 8 bits: whole numbers in, sums of 32 bits, and the steps at the end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from gossamer.runtime.c.tables import number
from gossamer.runtime.graph import DEEPEST, AnyNode, Graph

# Types of one byte, and the numbers that they hold. They may lie in a block of floats: C lets
# characters alias anything.
TYPES = {"int8_t": (-128, 127), "uint8_t": (0, 255)}


def rounding(node: AnyNode) -> Any:
    """The ``Round`` that a node is, or has inside; None if neither."""
    return node.operation if node.op == "round" else getattr(node.operation, "rounded", None)


def byte_type(node: AnyNode) -> str | None:
    """The type that holds what a node leaves, if it is rounded to what one byte holds."""
    s = rounding(node)
    fit = (k for k, (low, high) in TYPES.items() if s and low <= s.low and s.high <= high)
    return next(fit, None)


def value_types(graph: Graph) -> dict[str, str]:
    """The values that are held in bytes: rounded ones that only layers in 8 bits read."""

    def for_layers(value: str) -> bool:
        readers = graph.consumers(value)
        return value not in graph.outputs and all(
            (node.op == "reshape" and for_layers(node.output))
            or ("step" in node.constants and node.constants["weight"][0].size <= DEEPEST)
            for node in readers
        )

    types: dict[str, str] = {}
    for node in graph.nodes:
        kind = types.get(node.inputs[0]) if node.op == "reshape" else byte_type(node)
        if kind and for_layers(node.output):
            types[node.output] = kind
    return types


def with_rounding_inside(graph: Graph) -> Graph:
    """The graph with ``round`` as a setting of the layer in 8 bits before it, where it can be."""
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
    """The step of a value held in bytes."""
    made = {node.output: node for node in graph.nodes}
    node = made[value]
    while node.op == "reshape":
        node = made[node.inputs[0]]
    return float(rounding(node).step)


def floats_of(graph: Graph, value: str, types: dict[str, str]) -> int:
    """Floats that a value takes in the block of memory."""
    size = math.prod(graph.shapes[value])
    return -(-size // 4) if value in types else size


def rounding_steps(s: Any) -> list[str]:
    """Statements that round a float ``v`` to the nearest whole number of steps, ties to even."""
    return [
        f"v /= {number(s.step)};",
        f"if (!(v > {number(s.low)})) v = {number(s.low)};",  # NaN becomes the lowest
        f"if (v > {number(s.high)}) v = {number(s.high)};",
        "v = (v + 12582912.0f) - 12582912.0f;",  # no room for a fraction beyond 2^23
    ]
