"""Operators that give a value another shape, or join values."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Node, Shape, strides
from gossamer.runtime.operators.batch_axis import along, by_axes, in_front, pointwise, settle
from gossamer.runtime.operators.binary import constant_binary
from gossamer.runtime.operators.context import (
    Attributes,
    BatchAxis,
    Context,
    Unsupported,
    axes_of,
    numbers,
    reshaped,
    shown,
)
from gossamer.runtime.operators.folding import axes_in
from gossamer.runtime.operators.layout_ops import Concat, axis_of, drop, strided
from gossamer.runtime.operators.operator import Convert, Fold, Operator, Operators, Turned
from gossamer.runtime.operators.reshape import Reshape


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
        context.emit(Node(Reshape(), name, (inputs[0],), output), shape)

    return convert


def _unsqueeze(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = list(context.shape(inputs[0]))
    axes = axes_of(context, inputs, a)
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    context.emit(Node(Reshape(), name, (inputs[0],), output), tuple(shape))


def _concat(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shapes = [context.shape(i) for i in inputs]
    rank = len(shapes[0])
    axis = int(a["axis"]) % rank
    constants = [context.is_constant(i) for i in inputs]
    rest = {(s[1:axis], s[axis + 1 :]) for s in shapes}
    lead = {s[0] for s, constant in zip(shapes, constants, strict=True) if not constant}
    if axis == 0 or len(rest) > 1 or len(lead) > 1:
        raise Unsupported("it joins along the batch, or shapes that do not match")
    first = shapes[constants.index(False)]
    shape = (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])
    if any(constants):
        _join_constants(context, name, inputs, output, axis, shape)
        return
    context.emit(Node(Concat(axis), name, tuple(inputs), output), shape)


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
    context.emit(Node(Reshape(), name, (inputs[0],), output), context.shape(inputs[0]))


def _dropout(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if len(inputs) > 2 and inputs[2] and np.any(context.constant(inputs[2], "training mode")):
        raise Unsupported("it is in training mode; export the network in evaluation mode")
    _same(context, name, inputs, output, a)


def _squeeze(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = context.shape(inputs[0])
    axes = {axis_of(context, inputs[0], axis) for axis in axes_of(context, inputs, a)}
    drop(context, name, inputs[0], axes or {i for i, size in enumerate(shape) if size == 1}, output)


def _turned(operator: str) -> Turned:
    def rule(
        context: Context, convert: Convert, name: str, inputs: list[str], output: str, a: Attributes
    ) -> None:
        """The batch stays between the same numbers, whatever dimension that is then."""
        batched, sizes = in_front(context, name, inputs[0], output)
        lead, shape = context.shape(batched.source)[0], target_of(context, operator, inputs, a)
        behind = batched.after * math.prod(sizes[batched.axis + 1 :])
        places = [
            (shape[axis], axis)
            for axis in range(len(shape))
            if behind % (inner := math.prod(shape[axis + 1 :])) == 0
            and (inner * shape[axis]) % (behind * lead) == 0
        ]
        if not places:
            turned = context.shape(inputs[0])
            raise Unsupported(
                f"it reshapes {shown(turned)} to {shown(shape)}; that tears the batch"
            )
        _, axis = min(places)
        within = (*shape[:axis], shape[axis] // lead, *shape[axis + 1 :])
        front = f"{output} in front"
        context.emit(Node(Reshape(), name, (batched.source,), front), (lead, *within))
        after = behind // math.prod(shape[axis + 1 :])
        settle(context, name, BatchAxis(front, axis, after), output)

    return rule


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


def _reshapes(operator: str, fold: Fold) -> Operator:
    return Operator(_reshape(operator), fold, turned=_turned(operator))


SHAPES: Operators = {
    "Concat": Operator(
        _concat,
        lambda x, a: np.concatenate(x, axis=a["axis"]),
        lambda x, a: sum(value.size for value in x),
        turned=along(0, all_inputs=True),
    ),
    "Flatten": _reshapes("Flatten", _flatten),
    "Reshape": _reshapes("Reshape", _reshape_constant),
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
