"""Conversion of values whose batch is not their first dimension, as in sequence-first attention.

The engine always stores the batch first. When a transpose or a new axis moves it elsewhere in the
file, the engine still computes the value batch-first, and a ``BatchAxis`` records how the file's
value is read from it. Operators on such a value are converted for the batch-first value, with
their axes shifted by one. Each operator names the rule for this: one below, or one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from gossamer.runtime.graph import Shape
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BatchAxis, Context, Value, axes_of, shown
from gossamer.runtime.operators.operator import Convert, Turned
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported

# The axis of a batch of one, which is not among the dimensions of a value.
NOWHERE = -1


def in_front(context: Context, value: str, output: str) -> tuple[BatchAxis, Shape]:
    """Return the ``BatchAxis`` of a value, moved to the front if needed, and its other sizes."""
    if (batched := context.values[value].batch_axis) is not None:
        return batched, context.shape(batched.source)[1:]
    if context.batch == 1:
        batch, within, axis, after = 1, context.shape(value), NOWHERE, 1
    else:
        size, *rest = context.shape(value)
        batch = context.batch if size % context.batch == 0 else size
        within, axis, after = (size // batch, *rest), 0, size // batch
    source = f"{output} of {value} in front"
    if source not in context.values:
        context.emit(Reshape(), value, source, (batch, *within))
    return BatchAxis(source, axis, after), within


def settle(context: Context, batched: BatchAxis, output: str) -> None:
    """Define ``output`` by its ``BatchAxis``, or as a plain value if the batch is first again."""
    batch, *sizes = context.shape(batched.source)
    if not sizes:  # a number of no dimensions: the engine has it in a row of one
        context.values[output] = Value((), context.kind(batched.source), batch_axis=batched)
        return
    back = batched.axis == NOWHERE or (batched.axis == 0 and batched.after == sizes[0])
    sizes[batched.axis] *= batch
    if back:
        context.emit(Reshape(), batched.source, output, sizes)
        return
    kind = context.kind(batched.source)
    context.values[output] = Value(tuple(sizes), kind, batch_axis=batched)


def convert_in_front(
    context: Context, convert: Convert, call: Call, inputs: list[str], way: BatchAxis
) -> None:
    """Convert a call for batch-first ``inputs``; ``way`` is the batch axis of its output."""
    front = f"{call.output} in front"
    convert(context, replace(call, inputs=inputs, outputs=[front]))
    settle(context, replace(way, source=front), call.output)


def fronts_of(
    context: Context, inputs: Sequence[str], output: str, rank: int
) -> tuple[list[str], BatchAxis]:
    """Return the inputs batch-first, with ``rank`` dimensions after the batch, and its axis.

    Constants are returned unchanged.

    Raises:
        Unsupported: the inputs' batches are at different axes, or a constant differs between
            examples.
    """
    fronts, ways = [], []
    for value in inputs:
        if not value or context.is_constant(value):
            fronts.append(value)
            continue
        batched, sizes = in_front(context, value, output)
        missing = rank - len(sizes)
        source, batch = batched.source, context.shape(batched.source)[0]
        if missing:
            source = f"{output} of {value} widened"
            if source not in context.values:
                context.emit(Reshape(), batched.source, source, (batch, *[1] * missing, *sizes))
        fronts.append(source)
        if batched.axis == NOWHERE:
            ways.append((BatchAxis("", NOWHERE), 1, 1))
            continue
        ways.append(
            (BatchAxis("", batched.axis + missing, batched.after), batch, sizes[batched.axis])
        )
    if len(set(ways)) > 1:
        shapes = " and ".join(shown(context.shape(value)) for value in inputs if value)
        raise Unsupported(f"its inputs {shapes} have the batch at different axes")
    way, batch, _ = ways[0]
    for value in inputs:
        if context.is_constant(value) and batch > 1:
            own = context.array(value).shape
            at = way.axis - (rank - len(own))
            if at >= 0 and own[at] != 1:
                raise Unsupported(f"a constant of shape {own} differs between examples")
    return fronts, way


def pointwise(context: Context, convert: Convert, call: Call) -> None:
    rank = max(len(context.shape(value)) for value in call.inputs if value)
    fronts, way = fronts_of(context, call.inputs, call.output, rank)
    convert_in_front(context, convert, call, fronts, way)


def multiply(context: Context, convert: Convert, call: Call) -> None:
    """Convert a product with a constant matrix, or of two values' matrices."""
    values = [value for value in call.inputs[:2] if not context.is_constant(value)]
    rank = len(context.shape(values[0]))
    fronts, way = fronts_of(context, values, call.output, rank)
    if way.axis >= rank - len(values) or context.is_constant(call.value):
        shape = shown(context.shape(values[0]))
        raise Unsupported(f"it multiplies along the batch axis of {shape}")
    convert_in_front(context, convert, call, [*fronts, *call.inputs[len(fronts) :]], way)


def along(
    default: int, *, all_inputs: bool = False, all_outputs: bool = False, and_after: bool = False
) -> Turned:
    """Return the rule of an operator that works along the axis of its attribute ``axis``.

    Args:
        default: the axis if the attribute is absent.
        all_inputs: all inputs have this axis, not the first one only.
        all_outputs: all outputs have this axis, not the first one only.
        and_after: the operator also works along all dimensions after the axis.
    """

    def rule(context: Context, convert: Convert, call: Call) -> None:
        count = len(call.inputs) if all_inputs else 1
        rank = len(context.shape(next(v for v in call.inputs if not context.is_constant(v))))
        axis = int(call.get("axis", default))
        fronts, way = fronts_of(context, call.inputs[:count], call.output, rank)
        axis = axis + rank if axis < 0 else axis
        if axis == way.axis or (and_after and axis < way.axis):
            raise Unsupported("it works along the batch axis")
        for i, value in enumerate(fronts):
            if context.is_constant(value):
                fronts[i] = f"{call.output} constant {i}"
                context.add_constant(fronts[i], context.array(value)[None])
        outputs = call.outputs if all_outputs else [call.output]
        changed = replace(
            call,
            inputs=[*fronts, *call.inputs[count:]],
            outputs=[f"{value} in front" if value else "" for value in outputs],
            attributes={**call.attributes, "axis": axis + 1},
        )
        convert(context, changed)
        for value, front in zip(outputs, changed.outputs, strict=True):
            if value:
                more = len(context.shape(front)) - 1 - rank  # dimensions in place of the axis
                moved = way.axis + (more if axis < way.axis else 0)
                settle(context, BatchAxis(front, moved, way.after), value)

    return rule


def by_axes(what: Literal["slice", "squeeze", "unsqueeze", "reduce"]) -> Turned:
    """Return the rule of an operator that names several axes in an input or an attribute."""

    def rule(context: Context, convert: Convert, call: Call) -> None:
        shape, inputs = context.shape(call.value), call.inputs
        batched, _ = in_front(context, call.value, call.output)
        named = [call.value, *inputs[3:4]] if what == "slice" else inputs
        axes = axes_of(context, replace(call, inputs=named))
        if not axes:
            starts = len(context.integers(inputs[1], "starts")) if what == "slice" else 0
            ones = [i for i, size in enumerate(shape) if size == 1]
            every = [] if call.get("noop_with_empty_axes") else list(range(len(shape)))
            axes = {"slice": list(range(starts)), "squeeze": ones, "reduce": every}.get(what, [])
        rank = len(shape) + (len(axes) if what == "unsqueeze" else 0)
        if not axes or any(not -rank <= axis < rank for axis in axes):
            raise Unsupported(f"it has no axes {axes} in {shown(shape)}")
        axes = [axis % rank for axis in axes]
        axis = batched.axis
        if what == "unsqueeze" and axis != NOWHERE:
            axis = [i for i in range(rank) if i not in axes][axis]
        elif axis in axes:
            raise Unsupported("it works along the batch axis")
        elif what == "squeeze" or (what == "reduce" and not call.get("keepdims", 1)):
            axis -= sum(i < axis for i in set(axes))
        shifted = f"{call.output} axes"
        context.add_constant(shifted, np.array([i + 1 for i in axes], np.int64))
        more = [*inputs[1:3], shifted, *inputs[4:]] if what == "slice" else [shifted]
        plain = {key: value for key, value in call.attributes.items() if key != "axes"}
        changed = replace(call, attributes=plain)
        way = replace(batched, axis=axis)
        convert_in_front(context, convert, changed, [batched.source, *more], way)

    return rule
