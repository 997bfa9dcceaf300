"""Comparisons, truth and choices; truth is 0 or 1, as everything in float32."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.context import Attributes, Context, Convert, Unsupported, numbers
from gossamer.runtime.importer.folding import DTYPES
from gossamer.runtime.importer.operators.binary import combine, constant_binary


def _truth(kind: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        combine(context, kind, name, inputs[0], inputs[1], output, "b")

    return convert


def _not(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    constant_binary(context, "equal", name, inputs[0], output, np.zeros(()), "b")


def _is_nan(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    node = Node("unary", name, (inputs[0],), output, {"kind": "is_nan"})
    context.emit(node, context.shape(inputs[0]), "b")


def _cast(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if a["to"] not in DTYPES:
        raise Unsupported(f"it casts to element type {a['to']}; export in float32")
    value, shape = inputs[0], context.shape(inputs[0])
    dtype = np.dtype(DTYPES[a["to"]])
    kind = dtype.kind.replace("u", "i")
    if dtype.itemsize < 4 and kind != "b" != context.kind(value):
        raise Unsupported(f"it casts to {dtype}, whose range is not kept; export in float32")
    if dtype == np.float64:
        raise Unsupported("it casts to float64; export in float32, which everything is computed in")
    if kind == "b" != context.kind(value):
        constant_binary(context, "not_equal", name, value, output, np.zeros(()), "b")
    elif kind == "i" and context.kind(value) == "f":
        context.emit(Node("unary", name, (value,), output, {"kind": "truncate"}), shape, "i")
    else:
        context.emit(Node("reshape", name, (value,), output), shape, kind)


def _where(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """The sum of two values that the condition gates: -0, which changes no sum, or a number."""
    condition, *values = inputs
    kind = context.kind(values[0])
    parts = []
    for value, gate in zip(values, ("gate", "gate_not"), strict=True):
        part = f"{output} {gate}"
        if context.is_constant(condition) and context.is_constant(value):
            given = [context.array(i).shape for i in (condition, value)]
            context.spend(math.prod(np.broadcast_shapes(*given)))
            truth = context.array(condition).astype(bool) == (gate == "gate")
            chosen = np.where(truth, numbers(context.array(value)), np.float32(-0.0))
            context.add_constant(part, chosen)
        else:
            combine(context, gate, name, condition, value, part, kind)
        parts.append(part)
    combine(context, "add", name, parts[0], parts[1], output, kind)


LOGIC: dict[str, Convert] = {
    "Equal": _truth("equal"),
    "Less": _truth("less"),
    "LessOrEqual": _truth("less_equal"),
    "Greater": _truth("greater"),
    "GreaterOrEqual": _truth("greater_equal"),
    "And": _truth("mul"),
    "Or": _truth("max"),
    "Xor": _truth("not_equal"),
    "Not": _not,
    "IsNaN": _is_nan,
    "Cast": _cast,
    "Where": _where,
}
