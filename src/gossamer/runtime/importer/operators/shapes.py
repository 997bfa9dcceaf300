"""Operators that give a value another shape, or join values."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Node, Shape
from gossamer.runtime.importer.operators.moves import axes_of
from gossamer.runtime.importer.reader import Attributes, Convert, Reader, Unsupported, shown


def _target(reader: Reader, value: str, sizes: list[int], keep_zero: bool) -> Shape:
    shape = reader.shape(value)
    if keep_zero:
        sizes = [shape[i] if s == 0 and i < len(shape) else s for i, s in enumerate(sizes)]
    known = math.prod(s for s in sizes if s != -1)
    total = math.prod(shape)
    if sizes.count(-1) > 1 or any(s < -1 for s in sizes) or known == 0:
        raise Unsupported(f"it reshapes {shown(shape)} to {sizes}")
    sizes = [total // known if s == -1 else s for s in sizes]
    if math.prod(sizes) != total:
        raise Unsupported(f"it reshapes {shown(shape)} to {shown(tuple(sizes))}")
    return tuple(sizes)


def _reshape(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    sizes = [int(s) for s in np.ravel(reader.constant(inputs[1], "shape"))]
    shape = _target(reader, inputs[0], sizes, not a.get("allowzero"))
    reader.emit(Node("reshape", name, (inputs[0],), output), shape)


def _flatten(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = reader.shape(inputs[0])
    axis = int(a.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    reader.emit(
        Node("reshape", name, (inputs[0],), output),
        (math.prod(shape[:axis]), math.prod(shape[axis:])),
    )


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
    rest = {(s[:axis], s[axis + 1 :]) for s in shapes}
    if axis == 0 or len(rest) > 1 or any(i in reader.constants for i in inputs):
        raise Unsupported("it joins along the batch, or shapes that do not match, or constants")
    shape = (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])
    reader.emit(Node("concat", name, tuple(inputs), output, {"axis": axis}), shape)


def _same(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    reader.emit(Node("reshape", name, (inputs[0],), output), reader.shape(inputs[0]))


SHAPES: dict[str, Convert] = {
    "Concat": _concat,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _same,
}
