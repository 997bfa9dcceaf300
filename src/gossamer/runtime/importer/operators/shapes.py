"""Operators that give a value another shape, or join values."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node, Shape, strides
from gossamer.runtime.importer.operators.binary import constant_binary
from gossamer.runtime.importer.operators.moves import axes_of, strided
from gossamer.runtime.importer.reader import (
    Attributes,
    Convert,
    Reader,
    Unsupported,
    numbers,
    reshaped,
)


def target_of(reader: Reader, operator: str, inputs: list[str], a: Attributes) -> Shape:
    """The shape that Reshape or Flatten gives its input."""
    if operator == "Flatten":
        shape = reader.shape(inputs[0])
        axis = int(a.get("axis", 1))
        axis = axis + len(shape) if axis < 0 else axis
        return math.prod(shape[:axis]), math.prod(shape[axis:])
    sizes = [int(s) for s in np.ravel(reader.constant(inputs[1], "shape"))]
    return reshaped(reader.shape(inputs[0]), sizes, not a.get("allowzero"))


def _reshape(operator: str) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        shape = target_of(reader, operator, inputs, a)
        reader.emit(Node("reshape", name, (inputs[0],), output), shape)

    return convert


def _unsqueeze(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = list(reader.shape(inputs[0]))
    axes = axes_of(reader, inputs, a)
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    reader.emit(Node("reshape", name, (inputs[0],), output), tuple(shape))


def _concat(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shapes = [reader.shape(i) for i in inputs]
    rank = len(shapes[0])
    axis = int(a["axis"]) % rank
    constants = [i in reader.constants for i in inputs]
    rest = {(s[1:axis], s[axis + 1 :]) for s in shapes}
    lead = {s[0] for s, given in zip(shapes, constants, strict=True) if not given}
    if axis == 0 or len(rest) > 1 or len(lead) > 1:
        raise Unsupported("it joins along the batch, or shapes that do not match")
    first = shapes[constants.index(False)]
    shape = (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])
    if any(constants):
        _join_constants(reader, name, inputs, output, axis, shape)
        return
    reader.emit(Node("concat", name, tuple(inputs), output, {"axis": axis}), shape)


def _join_constants(
    reader: Reader, name: str, inputs: list[str], output: str, axis: int, shape: Shape
) -> None:
    """A value among constants, such as a class token: the value padded, plus the constants."""
    values = [value for value in inputs if value not in reader.constants]
    if len(values) > 1 or any(len(reader.constants[i]) != 1 for i in inputs if i not in values):
        raise Unsupported("it joins constants with several values, or constants with a batch")
    (value,) = values
    own = reader.shape(value)
    reader.spend(math.prod(shape[1:]))
    filled = np.zeros(own[1:], np.float32)
    right = np.concatenate(
        [filled if i == value else numbers(reader.constants[i][0]) for i in inputs], axis - 1
    )
    before = sum(reader.shape(i)[axis] for i in inputs[: inputs.index(value)])
    target = strides(shape[1:])
    strided(
        reader, name, value, f"{output} alone", shape, list(own[1:]), strides(own[1:]), target,
        at=before * target[axis - 1], clear=True,
    )  # fmt: skip
    constant_binary(reader, "add", name, f"{output} alone", output, right)


def _same(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    reader.emit(Node("reshape", name, (inputs[0],), output), reader.shape(inputs[0]))


def _dropout(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if len(inputs) > 2 and inputs[2] and np.any(reader.constant(inputs[2], "training mode")):
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    _same(reader, name, inputs, output, a)


SHAPES: dict[str, Convert] = {
    "Concat": _concat,
    "Flatten": _reshape("Flatten"),
    "Reshape": _reshape("Reshape"),
    "Unsqueeze": _unsqueeze,
    "Identity": _same,
    "Dropout": _dropout,
}
