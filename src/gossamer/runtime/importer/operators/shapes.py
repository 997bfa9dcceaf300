"""Operators that give a value another shape, or join values."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node, Shape, strides
from gossamer.runtime.importer.context import (
    Attributes,
    Context,
    Convert,
    Unsupported,
    numbers,
    reshaped,
)
from gossamer.runtime.importer.operators.binary import constant_binary
from gossamer.runtime.importer.operators.layout_ops import axes_of, strided


def target_of(context: Context, operator: str, inputs: list[str], a: Attributes) -> Shape:
    """The shape that Reshape or Flatten gives its input."""
    if operator == "Flatten":
        shape = context.shape(inputs[0])
        axis = int(a.get("axis", 1))
        axis = axis + len(shape) if axis < 0 else axis
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    sizes = [int(s) for s in np.ravel(context.constant(inputs[1], "shape"))]
    return reshaped(context.shape(inputs[0]), sizes, not a.get("allowzero"))


def _reshape(operator: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = target_of(context, operator, inputs, a)
        context.emit(Node("reshape", name, (inputs[0],), output), shape)

    return convert


def _unsqueeze(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = list(context.shape(inputs[0]))
    axes = axes_of(context, inputs, a)
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    context.emit(Node("reshape", name, (inputs[0],), output), tuple(shape))


def _concat(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shapes = [context.shape(i) for i in inputs]
    rank = len(shapes[0])
    axis = int(a["axis"]) % rank
    constants = [context.is_constant(i) for i in inputs]
    rest = {(s[1:axis], s[axis + 1 :]) for s in shapes}
    lead = {s[0] for s, given in zip(shapes, constants, strict=True) if not given}
    if axis == 0 or len(rest) > 1 or len(lead) > 1:
        raise Unsupported("it joins along the batch, or shapes that do not match")
    first = shapes[constants.index(False)]
    shape = (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])
    if any(constants):
        _join_constants(context, name, inputs, output, axis, shape)
        return
    context.emit(Node("concat", name, tuple(inputs), output, {"axis": axis}), shape)


def _join_constants(
    context: Context, name: str, inputs: list[str], output: str, axis: int, shape: Shape
) -> None:
    """A value among constants, such as a class token: the value padded, plus the constants."""
    values = [value for value in inputs if not context.is_constant(value)]
    if len(values) > 1 or any(len(context.array(i)) != 1 for i in inputs if i not in values):
        raise Unsupported("it joins constants with several values, or constants with a batch")
    (value,) = values
    own = context.shape(value)
    context.spend(math.prod(shape[1:]))
    filled = np.zeros(own[1:], np.float32)
    right = np.concatenate(
        [filled if i == value else numbers(context.array(i)[0]) for i in inputs], axis - 1
    )
    before = sum(context.shape(i)[axis] for i in inputs[: inputs.index(value)])
    target = strides(shape[1:])
    strided(
        context, name, value, f"{output} alone", shape, list(own[1:]), strides(own[1:]), target,
        at=before * target[axis - 1], clear=True,
    )  # fmt: skip
    constant_binary(context, "add", name, f"{output} alone", output, right)


def _same(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    context.emit(Node("reshape", name, (inputs[0],), output), context.shape(inputs[0]))


def _dropout(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if len(inputs) > 2 and inputs[2] and np.any(context.constant(inputs[2], "training mode")):
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    _same(context, name, inputs, output, a)


SHAPES: dict[str, Convert] = {
    "Concat": _concat,
    "Flatten": _reshape("Flatten"),
    "Reshape": _reshape("Reshape"),
    "Unsqueeze": _unsqueeze,
    "Identity": _same,
    "Dropout": _dropout,
}
