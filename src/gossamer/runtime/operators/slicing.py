"""Slice and Split: evenly spaced parts of an axis."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array
from gossamer.runtime.operators.axis import axis_of
from gossamer.runtime.operators.batch_axis import along, by_axes
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context, shown
from gossamer.runtime.operators.folding import LEFT_OUT
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.strided import strided
from gossamer.runtime.operators.unsupported import Unsupported


def part(context: Context, value: str, axis: int, span: range, output: str = "") -> str:
    """Take the numbers at ``span`` along an axis; return the result's name."""
    shape = context.shape(value)
    if span == range(shape[axis]):
        return context.emit(Reshape(), value, output)
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    if not span:
        raise Unsupported(f"it takes no element of {shown(shape)}")
    return spaced(context, value, axis, span.start, span.step, len(span), output)


def spaced(
    context: Context, value: str, axis: int, first: int, step: int, count: int, output: str = ""
) -> str:
    """Take ``count`` numbers along an axis, ``step`` apart; return the result's name."""
    shape = context.shape(value)
    outer, inner = math.prod(shape[1:axis]), math.prod(shape[axis + 1 :])
    taken = (*shape[:axis], count, *shape[axis + 1 :])
    source = [shape[axis] * inner, step * inner, 1]
    return strided(
        context, value, output, taken, [outer, count, inner], source, start=first * inner
    )


def _slice(context: Context, call: Call) -> None:
    starts, ends = (context.integers(i, "limits") for i in call.inputs[1:3])
    axes, steps = list(range(len(starts))), [1] * len(starts)
    if named := call.optional(3):
        axes = context.integers(named, "axes")
    if named := call.optional(4):
        steps = context.integers(named, "steps")
    value = call.value
    parts = list(zip(starts, ends, axes, steps, strict=True))
    for i, (start, end, which, step) in enumerate(parts, start=1):
        axis = axis_of(context, value, which)
        span = range(context.shape(value)[axis])[start:end:step]
        value = part(context, value, axis, span, call.output if i == len(parts) else "")


def _split(context: Context, call: Call) -> None:
    axis = axis_of(context, call.value, int(call.get("axis", 0)))
    size, outputs = context.shape(call.value)[axis], call.outputs
    if named := call.optional(1):
        parts = context.integers(named, "parts")
    else:
        each = -(-size // len(outputs))
        parts = [min(each, size - i * each) for i in range(len(outputs))]
    if len(parts) != len(outputs) or sum(parts) != size or min(parts) < 1:
        raise Unsupported(f"it splits {size} into {parts}")
    at = 0
    for count, result in zip(parts, outputs, strict=True):
        if result:
            part(context, call.value, axis, range(at, at + count), result)
        at += count


def _slice_constant(x: list[Array], a: Attributes) -> Array:
    parts = [slice(None)] * x[0].ndim
    starts, ends = np.ravel(x[1]), np.ravel(x[2])
    axes = np.ravel(x[3]) if len(x) > 3 and x[3] is not LEFT_OUT else np.arange(len(starts))
    steps = np.ravel(x[4]) if len(x) > 4 else np.ones(len(starts), np.int64)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[int(axis)] = slice(int(start), int(end), int(step))
    return np.asarray(x[0][tuple(parts)])


SLICING: Operators = {
    "Slice": Operator(_slice, _slice_constant, shared="view", turned=by_axes("slice")),
    "Split": Operator(_split, turned=along(0, all_outputs=True)),
}
