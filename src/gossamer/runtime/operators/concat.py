"""Concat, of values and of a value with constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Shape, Single, strides
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.batch_axis import along
from gossamer.runtime.operators.binary import constant_binary
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, numbers
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.strided import strided
from gossamer.runtime.operators.unsupported import Unsupported


@dataclass(frozen=True)
class Concat(Single):
    """Values concatenated along an axis."""

    op = "concat"

    axis: int

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        axis = self.axis
        names = _with_earlier(lowering, tuple(node.inputs), axis)
        values = [lowering.values[name] for name in names]
        result = lowering.value(node.output)
        result.joined = axis, tuple(node.inputs)
        last = axis == 1 and len(result.shape) > 2  # images whose channels lie last stay so
        last = last and all(
            lowering.layout(v) == "last" and v.pixels == result.pixels for v in values
        )
        outer = result.pixels if last else math.prod(result.shape[1:axis])
        inner = 1 if last else math.prod(result.shape[axis + 1 :])
        plain = "last" if last else "dense"
        sources = [lowering.form(value, plain) for value in values]
        buffer = lowering.new(result, plain, result.item)
        at, whole = 0, result.shape[axis] * inner
        for value, source in zip(values, sources, strict=True):
            part = value.shape[axis] * inner
            lowering.copy(
                source,
                buffer,
                value.items,
                [outer, part],
                [part, 1],
                [whole, 1],
                at=at,
                pixels=value.pixels if plain == "dense" and len(value.shape) == 4 else 0,
            )
            at += part

    def write(self, writer: Writer, node: AnyNode) -> None:
        axis = self.axis
        shapes = [writer.shape(value) for value in node.inputs]
        lines = []
        for i, shape in enumerate(shapes):
            source, size = f"x{i}" if i else "x", math.prod(shape[axis:])
            lines.append(f"    for (i = 0; i < {size}; ++i) *y++ = *{source}++;")
        outer = math.prod(shapes[0][:axis])
        body = "\n".join([f"for (n = 0; n < {outer}; ++n) {{", *lines, "}"])
        writer.function(node, "n, i", body)


def _with_earlier(lowering: Lowering, inputs: tuple[str, ...], axis: int) -> tuple[str, ...]:
    """Return the inputs with the first of them replaced by an earlier concatenation of these.

    So the layers of a DenseNet, which join a value with all before it, join it with one.
    """
    matches = [
        (len(value.joined[1]), name)
        for name, value in lowering.values.items()
        if value.joined[1] and value.joined == (axis, inputs[: len(value.joined[1])])
    ]
    count, name = max(matches, default=(0, ""))
    return (name, *inputs[count:]) if count else inputs


def _concat(context: Context, call: Call) -> None:
    shapes = [context.shape(i) for i in call.inputs]
    rank = len(shapes[0])
    axis = int(call.attributes["axis"]) % rank
    constants = [context.is_constant(i) for i in call.inputs]
    rest = {(s[1:axis], s[axis + 1 :]) for s in shapes}
    batches = {s[0] for s, constant in zip(shapes, constants, strict=True) if not constant}
    if axis == 0 or len(rest) > 1 or len(batches) > 1:
        raise Unsupported("it joins along the batch axis, or shapes that do not match")
    first = shapes[constants.index(False)]
    shape = (*first[:axis], sum(s[axis] for s in shapes), *first[axis + 1 :])
    if any(constants):
        _join_constants(context, call, axis, shape)
    else:
        context.emit(Concat(axis), tuple(call.inputs), call.output, shape)


def _join_constants(context: Context, call: Call, axis: int, shape: Shape) -> None:
    """Concatenate a value with constants (a class token): pad the value, add the constants."""
    inputs = call.inputs
    values = [value for value in inputs if not context.is_constant(value)]
    if len(values) > 1 or any(len(context.array(i)) != 1 for i in inputs if i not in values):
        raise Unsupported("it joins constants with several values, or constants that have a batch")
    (value,) = values
    own = context.shape(value)
    context.spend(math.prod(shape[1:]))
    filled = np.zeros(own[1:], np.float32)
    right = np.concatenate(
        [filled if i == value else numbers(context.array(i)[0]) for i in inputs], axis - 1
    )
    before = sum(context.shape(i)[axis] for i in inputs[: inputs.index(value)])
    target = strides(shape[1:])
    alone = strided(
        context, value, "", shape, list(own[1:]), strides(own[1:]), target,
        at=before * target[axis - 1], clear=True,
    )  # fmt: skip
    constant_binary(context, "add", alone, right, call.output)


CONCAT: Operators = {
    "Concat": Operator(
        _concat,
        lambda x, a: np.concatenate(x, axis=a["axis"]),
        lambda x, a: sum(value.size for value in x),
        turned=along(0, all_inputs=True),
    ),
}
