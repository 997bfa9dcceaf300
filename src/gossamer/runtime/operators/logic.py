"""Comparisons, boolean operators and Where; booleans are 0.0 or 1.0 in float32."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gossamer.runtime.operators.batch_axis import pointwise
from gossamer.runtime.operators.binary import (
    arithmetic,
    binary,
    combine,
    constant_binary,
    of_two,
)
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, numbers
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.folding import COMPARE, DTYPES
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported


def _not(context: Context, call: Call) -> None:
    constant_binary(context, "equal", call.value, 0.0, call.output, "b")


def _is_nan(context: Context, call: Call) -> None:
    context.emit(Unary("is_nan"), call.value, call.output, kind="b")


def _cast(context: Context, call: Call) -> None:
    value, output, to = call.value, call.output, call.attributes["to"]
    if to not in DTYPES:
        raise Unsupported(f"it casts to element type {to}; export in float32")
    dtype = np.dtype(DTYPES[to])
    kind = dtype.kind.replace("u", "i")
    if dtype == np.float64:
        raise Unsupported("it casts to float64; export in float32, which everything is computed in")
    if kind == "b" != context.kind(value):
        constant_binary(context, "not_equal", value, 0.0, output, "b")
    elif kind == "i" and context.kind(value) != "b":
        narrow = dtype.itemsize < 4
        operation = Unary("truncate") if context.kind(value) == "f" else Reshape()
        whole = context.emit(operation, value, "" if narrow else output, kind="i")
        if narrow:
            _wrapped(context, whole, output, np.iinfo(dtype))
    else:
        context.emit(Reshape(), value, output, kind=kind)


def _wrapped(context: Context, value: str, output: str, of: np.iinfo[Any]) -> None:
    """Wrap integers around at the limits of a narrow integer type, as a cast to it does."""
    low, size = float(of.min), float(of.max) - float(of.min) + 1
    shifted = constant_binary(context, "sub", value, low)
    turns = context.emit(
        Unary("floor"), constant_binary(context, "mul", shifted, 1 / size, "", "f")
    )
    beyond = constant_binary(context, "mul", turns, size, "", "i")
    combine(context, "sub", value, beyond, output, "i")


def _where(context: Context, call: Call) -> None:
    """Convert Where to a sum of two gated values: a value that is not chosen counts as -0."""
    condition, *values = call.inputs
    kind = context.kind(values[0])
    parts = []
    for value, gate in zip(values, ("gate", "gate_not"), strict=True):
        if context.is_constant(condition) and context.is_constant(value):
            part = f"{call.output} {gate}"
            shapes = [context.array(i).shape for i in (condition, value)]
            context.spend(math.prod(np.broadcast_shapes(*shapes)))
            truth = context.array(condition).astype(bool) == (gate == "gate")
            chosen = np.where(truth, numbers(context.array(value)), np.float32(-0.0))
            context.add_constant(part, chosen)
        else:
            part = combine(context, gate, condition, value, "", kind)
        parts.append(part)
    combine(context, "add", parts[0], parts[1], call.output, kind)


LOGIC: Operators = {
    "Equal": arithmetic(binary("equal", "b"), of_two(COMPARE["Equal"])),
    "Less": arithmetic(binary("less", "b"), of_two(COMPARE["Less"])),
    "LessOrEqual": arithmetic(binary("less_equal", "b"), of_two(COMPARE["LessOrEqual"])),
    "Greater": arithmetic(binary("greater", "b"), of_two(COMPARE["Greater"])),
    "GreaterOrEqual": arithmetic(binary("greater_equal", "b"), of_two(COMPARE["GreaterOrEqual"])),
    "And": arithmetic(binary("mul", "b"), of_two(np.logical_and)),
    "Or": arithmetic(binary("max", "b"), of_two(np.logical_or)),
    "Xor": Operator(binary("not_equal", "b"), turned=pointwise),
    "Not": Operator(_not, lambda x, a: np.logical_not(x[0]), shared="pointwise", turned=pointwise),
    "IsNaN": Operator(_is_nan, lambda x, a: np.isnan(x[0]), shared="pointwise", turned=pointwise),
    "Cast": Operator(
        _cast, lambda x, a: x[0].astype(DTYPES[a["to"]]), shared="pointwise", turned=pointwise
    ),
    "Where": arithmetic(_where, lambda x, a: np.where(x[0], x[1], x[2])),
}
