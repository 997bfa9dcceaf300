"""Operators that only change the shape of a value."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Shape
from gossamer.runtime.operators.axis import axis_of
from gossamer.runtime.operators.batch_axis import by_axes, in_front, pointwise, settle
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import BatchAxis, Context, axes_of, reshaped, shown
from gossamer.runtime.operators.folding import axes_in
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported


def target_of(context: Context, call: Call) -> Shape:
    """Return the output shape of Reshape or Flatten."""
    shape = context.shape(call.value)
    if call.operator == "Flatten":
        axis = int(call.get("axis", 1))
        axis = axis + len(shape) if axis < 0 else axis
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    return reshaped(shape, context.integers(call.inputs[1], "shape"), not call.get("allowzero"))


def _reshape(context: Context, call: Call) -> None:
    context.emit(Reshape(), call.value, call.output, target_of(context, call))


def _unsqueeze(context: Context, call: Call) -> None:
    shape = list(context.shape(call.value))
    axes = axes_of(context, call)
    rank = len(shape) + len(axes)
    if len({axis % rank for axis in axes if -rank <= axis < rank}) < len(axes):
        raise Unsupported(f"it makes axes {axes} of {shown(tuple(shape))}")
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    context.emit(Reshape(), call.value, call.output, shape)


def drop(context: Context, value: str, axes: set[int], output: str) -> None:
    """Remove axes of size one."""
    shape = context.shape(value)
    if 0 in axes or any(shape[axis] != 1 for axis in axes):
        raise Unsupported(f"it squeezes axes {sorted(axes)} of {shown(shape)}")
    small = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    context.emit(Reshape(), value, output, small)


def _same(context: Context, call: Call) -> None:
    context.emit(Reshape(), call.value, call.output)


def _dropout(context: Context, call: Call) -> None:
    if (mode := call.optional(2)) and np.any(context.constant(mode, "training mode")):
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    _same(context, call)


def _squeeze(context: Context, call: Call) -> None:
    shape = context.shape(call.value)
    axes = {axis_of(context, call.value, axis) for axis in axes_of(context, call)}
    axes = axes or {i for i, size in enumerate(shape) if size == 1}
    drop(context, call.value, axes, call.output)


def _turned(context: Context, convert: Convert, call: Call) -> None:
    """Convert a reshape of a value whose batch is not first: find the axis that it moves to."""
    batched, sizes = in_front(context, call.value, call.output)
    batch, shape = context.shape(batched.source)[0], target_of(context, call)
    behind = batched.after * math.prod(sizes[batched.axis + 1 :])
    places = [
        (shape[axis], axis)
        for axis in range(len(shape))
        if behind % (inner := math.prod(shape[axis + 1 :])) == 0
        and (inner * shape[axis]) % (behind * batch) == 0
    ]
    if not places:
        turned = context.shape(call.value)
        raise Unsupported(
            f"it reshapes {shown(turned)} to {shown(shape)}; an example must stay in one piece"
        )
    _, axis = min(places)
    within = (*shape[:axis], shape[axis] // batch, *shape[axis + 1 :])
    front = context.emit(Reshape(), batched.source, shape=(batch, *within))
    after = behind // math.prod(shape[axis + 1 :])
    settle(context, BatchAxis(front, axis, after), call.output)


def _unsqueeze_constant(x: list[Array], a: Attributes) -> Array:
    axes = axes_in(x, a) or (0,)
    if len(axes) > 32:
        raise Unsupported(f"it makes {len(axes)} dimensions; 32 at most can run")
    return np.expand_dims(x[0], axes)


def _reshape_constant(x: list[Array], a: Attributes) -> Array:
    shape = [x[0].shape[i] if size == 0 else int(size) for i, size in enumerate(np.ravel(x[1]))]
    return x[0].reshape(shape)


def _flatten(x: list[Array], a: Attributes) -> Array:
    axis = int(a.get("axis", 1))
    axis = axis + x[0].ndim if axis < 0 else axis
    return x[0].reshape(math.prod(x[0].shape[:axis]), -1)


SHAPES: Operators = {
    "Flatten": Operator(_reshape, _flatten, turned=_turned),
    "Reshape": Operator(_reshape, _reshape_constant, turned=_turned),
    "Squeeze": Operator(
        _squeeze,
        lambda x, a: np.squeeze(x[0], axis=axes_in(x, a)),
        shared="view",
        turned=by_axes("squeeze"),
    ),
    "Unsqueeze": Operator(
        _unsqueeze, _unsqueeze_constant, shared="view", turned=by_axes("unsqueeze")
    ),
    "Identity": Operator(_same, lambda x, a: x[0], shared="pointwise", turned=pointwise),
    "Dropout": Operator(_dropout, turned=pointwise),
}
