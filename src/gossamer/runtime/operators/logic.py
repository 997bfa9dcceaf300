"""Comparisons, truth and choices; truth is 0 or 1, as everything in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gossamer.runtime.graph import Array, Node
from gossamer.runtime.operators.batch_axis import pointwise
from gossamer.runtime.operators.binary import arithmetic, combine, constant_binary, of_two
from gossamer.runtime.operators.context import Attributes, Context, Unsupported, numbers
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.folding import COMPARE, DTYPES
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape


def _truth(kind: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        combine(context, kind, name, inputs[0], inputs[1], output, "b")

    return convert


def _not(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    constant_binary(context, "equal", name, inputs[0], output, np.zeros(()), "b")


def _is_nan(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    node = Node(Unary("is_nan"), name, (inputs[0],), output)
    context.emit(node, context.shape(inputs[0]), "b")


def _cast(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if a["to"] not in DTYPES:
        raise Unsupported(f"it casts to element type {a['to']}; export in float32")
    value, shape = inputs[0], context.shape(inputs[0])
    dtype = np.dtype(DTYPES[a["to"]])
    kind = dtype.kind.replace("u", "i")
    if dtype == np.float64:
        raise Unsupported("it casts to float64; export in float32, which everything is computed in")
    if kind == "b" != context.kind(value):
        constant_binary(context, "not_equal", name, value, output, np.zeros(()), "b")
    elif kind == "i" and context.kind(value) != "b":
        narrow = dtype.itemsize < 4
        whole = f"{output} whole" if narrow else output
        operation = Unary("truncate") if context.kind(value) == "f" else Reshape()
        context.emit(Node(operation, name, (value,), whole), shape, "i")
        if narrow:
            _wrapped(context, name, whole, output, np.iinfo(dtype))
    else:
        context.emit(Node(Reshape(), name, (value,), output), shape, kind)


def _wrapped(context: Context, name: str, value: str, output: str, of: np.iinfo[Any]) -> None:
    """Integers in the range of a narrow type, beyond which it begins again at its other end."""
    low, size = float(of.min), float(of.max) - float(of.min) + 1
    shape = context.shape(value)
    shifted, turns, whole = (f"{output} {part}" for part in ("shifted", "turns", "whole turns"))
    constant_binary(context, "sub", name, value, shifted, np.array(low))
    constant_binary(context, "mul", name, shifted, turns, np.array(1 / size), "f")
    context.emit(Node(Unary("floor"), name, (turns,), whole), shape)
    constant_binary(context, "mul", name, whole, f"{output} beyond", np.array(size), "i")
    combine(context, "sub", name, value, f"{output} beyond", output, "i")


def _where(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """The sum of two values that the condition gates: -0, which changes no sum, or a number."""
    condition, *values = inputs
    kind = context.kind(values[0])
    parts = []
    for value, gate in zip(values, ("gate", "gate_not"), strict=True):
        part = f"{output} {gate}"
        if context.is_constant(condition) and context.is_constant(value):
            shapes = [context.array(i).shape for i in (condition, value)]
            context.spend(math.prod(np.broadcast_shapes(*shapes)))
            truth = context.array(condition).astype(bool) == (gate == "gate")
            chosen = np.where(truth, numbers(context.array(value)), np.float32(-0.0))
            context.add_constant(part, chosen)
        else:
            combine(context, gate, name, condition, value, part, kind)
        parts.append(part)
    combine(context, "add", name, parts[0], parts[1], output, kind)


def _cast_constant(x: list[Array], a: Attributes) -> Array:
    return x[0].astype(DTYPES[a["to"]])


LOGIC: Operators = {
    "Equal": arithmetic(_truth("equal"), of_two(COMPARE["Equal"])),
    "Less": arithmetic(_truth("less"), of_two(COMPARE["Less"])),
    "LessOrEqual": arithmetic(_truth("less_equal"), of_two(COMPARE["LessOrEqual"])),
    "Greater": arithmetic(_truth("greater"), of_two(COMPARE["Greater"])),
    "GreaterOrEqual": arithmetic(_truth("greater_equal"), of_two(COMPARE["GreaterOrEqual"])),
    "And": arithmetic(_truth("mul"), of_two(np.logical_and)),
    "Or": arithmetic(_truth("max"), of_two(np.logical_or)),
    "Xor": Operator(_truth("not_equal"), turned=pointwise),
    "Not": Operator(_not, lambda x, a: np.logical_not(x[0]), shared="pointwise", turned=pointwise),
    "IsNaN": Operator(_is_nan, turned=pointwise),
    "Cast": Operator(_cast, _cast_constant, shared="pointwise", turned=pointwise),
    "Where": arithmetic(_where, lambda x, a: np.where(x[0], x[1], x[2])),
}
