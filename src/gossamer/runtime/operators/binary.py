"""Arithmetic on two values, or on a value and a constant.

A kind of ``Binary`` is a row of the kernels' table in ``kernels/kinds.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from gossamer.kernels._kernels import BINARY as KINDS
from gossamer.runtime.c.loops import expression, index, names, nested
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Node, Shape, Single, merged, repeating, strides
from gossamer.runtime.lowering.layouts import Lowering, Value
from gossamer.runtime.operators.batch_axis import pointwise
from gossamer.runtime.operators.context import (
    BATCH,
    Attributes,
    Context,
    Unsupported,
    numbers,
    shown,
)
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.folding import broadcast
from gossamer.runtime.operators.layout_ops import expand
from gossamer.runtime.operators.operator import Convert, Fold, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape

# What each kind is called when its operands change places; others have no such form.
MIRROR = {
    "add": "add",
    "mul": "mul",
    "min": "min",
    "max": "max",
    "equal": "equal",
    "not_equal": "not_equal",
    "less": "greater",
    "greater": "less",
    "less_equal": "greater_equal",
    "greater_equal": "less_equal",
    "gate": "gated",
    "gate_not": "gated_not",
}


def _channels_last(shape: Shape) -> Shape:
    """The shape of an image's item, its channels last."""
    return (*shape[1:], shape[0])


def _stays_last(lowering: Lowering, values: list[Value], shape: Shape) -> bool:
    """Whether two values, or one and a constant, are best combined with their channels last."""
    left, other = values[0], values[-1]
    if lowering.layout(left) != "last" or left.shape != shape or not 3 <= len(shape) <= 5:
        return False
    near = lowering.layout(other) == "last" or other.pixels == 1  # both layouts are the same
    return other.channels == left.channels and (other.shape == shape or near)


@dataclass(frozen=True)
class Binary(Single):
    """A function of the numbers ``v`` and ``w`` of two values, or of one and ``right``."""

    op = "binary"

    kind: str

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        values = [lowering.values[name] for name in node.inputs]
        result = lowering.value(node.output)
        within = result.shape[1:]
        operands = [value.shape[1:] for value in values]
        constant = node.constants.get("right")
        if constant is not None:
            constant = constant.reshape((*[1] * (len(within) - constant.ndim), *constant.shape))
            operands.append(constant.shape)
        last = _stays_last(lowering, values, result.shape)
        plain = "last" if last else "dense"
        if last:
            result.channels, result.pixels = values[0].channels, values[0].pixels
            within, *operands = (_channels_last(shape) for shape in (within, *operands))
            constant = constant if constant is None else np.moveaxis(constant, 0, -1)
        left, right = operands if len(operands) == 2 else operands * 2
        sizes, (left_steps, right_steps) = merged(
            within, repeating(left, within), repeating(right, within)
        )
        missing = 4 - len(sizes)
        kernel_shape = {
            "kind": list(KINDS).index(self.kind),
            "sizes": [*[1] * missing, *sizes],
            "left": [*[0] * missing, *left_steps],
            "right": [*[0] * missing, *right_steps],
        }
        sources = [lowering.form(value, plain) for value in values]
        data = [np.zeros(1) if constant is None else constant.ravel()]
        lowering.add(
            node.name,
            lowering.kernel("binary"),
            (*sources, *[None] * (2 - len(sources))),
            lowering.new(result, plain, result.item),
            kernel_shape,
            data=[numbers.astype(np.float32) for numbers in data],
            lead=result.lead,
        )

    def write(self, writer: Writer, node: AnyNode) -> None:
        """Lower by strides over the result's item, zero where a dimension is repeated."""
        shape = writer.shape(node.output)[1:]
        constant = node.constants.get("right")
        left = writer.shape(node.inputs[0])[1:]
        right = constant.shape if constant is not None else writer.shape(node.inputs[1])[1:]
        operand = "x1"
        if constant is not None:
            operand = writer.tables.floats(f"{writer.called(node)}_right", constant)
        sizes, (from_left, from_right) = merged(
            shape, repeating(left, shape), repeating(right, shape)
        )
        item = math.prod(shape)
        ahead = f", x += {math.prod(left)}"
        if constant is None:
            ahead += f", x1 += {math.prod(right)}"
        combined = expression(
            KINDS[self.kind], v=f"x[{index(from_left)}]", w=f"{operand}[{index(from_right)}]"
        )
        inner = [f"y[{index(strides(tuple(sizes)))}] = {combined};"]
        body = nested(sizes, inner)
        writer.function(
            node,
            ", ".join(["n", *names(sizes)]),
            f"for (n = 0; n < {writer.shape(node.output)[0]}; ++n{ahead}, y += {item}) {{\n"
            + "\n".join("    " + line for line in body)
            + "\n}",
        )


def constant_binary(
    context: Context,
    kind: str,
    name: str,
    value: str,
    output: str,
    constant: Array,
    result_kind: str | None = None,
) -> None:
    """A value and a constant that lies within each example; ``result_kind`` as in ``emit``."""
    shape = context.shape(value)
    right = numbers(constant)
    while right.ndim >= len(shape) and right.ndim and right.shape[0] == 1:
        right = right[0]
    wide = np.broadcast_shapes(shape[1:], right.shape)
    if len(wide) != len(shape) - 1:
        raise Unsupported(f"a constant of shape {right.shape} against {shown(shape)}")
    if wide != shape[1:]:
        shape = (shape[0], *wide)
        expand(context, name, value, shape, f"{output} repeated")
        value = f"{output} repeated"
    _check_loops(shape, shape[1:], right.shape)
    node = Node(Binary(kind), name, (value,), output, {"right": right})
    context.emit(node, shape, result_kind)


def _check_loops(shape: Shape, left: Shape, right: Shape) -> None:
    """At most four dimensions for the kernel, neighbors that lie together made one."""
    within = shape[1:]
    if len(merged(within, repeating(left, within), repeating(right, within))[0]) > 4:
        raise Unsupported(f"it repeats values to {shown(shape)} along too many dimensions")


def _each(
    context: Context,
    kind: str,
    name: str,
    value: str,
    output: str,
    constant: Array,
    result_kind: str | None,
) -> None:
    """A value that has several entries for each example, and a constant of as many."""
    shape, count = context.shape(value), len(constant)
    if shape[0] != count * BATCH or constant.ndim != len(shape):
        raise Unsupported(f"a constant of {count} entries for each example of {shown(shape)}")
    apart, result = f"{output} apart", f"{output} of each"
    context.emit(Node(Reshape(), name, (value,), apart), (BATCH, count, *shape[1:]))
    constant_binary(context, kind, name, apart, result, constant[None], result_kind)
    (_, _, *rest) = context.shape(result)
    context.emit(Node(Reshape(), name, (result,), output), (shape[0], *rest))


def combine(
    context: Context,
    kind: str,
    name: str,
    left: str,
    right: str,
    output: str,
    result_kind: str | None = None,
) -> None:
    """Two values, or a value and a constant on either side; ``result_kind`` as in ``emit``."""
    if context.is_constant(left):
        if kind in MIRROR:
            left, right, kind = right, left, MIRROR[kind]
        elif kind in ("sub", "div"):  # c - x = -x + c, c / x = 1/x * c
            first, kind = ("neg", "add") if kind == "sub" else ("reciprocal", "mul")
            turned = f"{output} {first}"
            context.emit(Node(Unary(first), name, (right,), turned), context.shape(right))
            left, right = turned, left
        else:
            raise Unsupported("it raises a constant to the power of a value")
    if context.is_constant(right):
        constant = context.array(right)
        if context.values[right].repeated and context.shape(right)[0] > BATCH:
            _each(context, kind, name, left, output, constant, result_kind)
        else:
            constant_binary(context, kind, name, left, output, constant, result_kind)
        return
    shapes = context.shape(left), context.shape(right)
    if len(shapes[0]) < len(shapes[1]) and kind in MIRROR:
        left, right, shapes, kind = right, left, shapes[::-1], MIRROR[kind]
    if len(shapes[0]) != len(shapes[1]) or shapes[0][0] != shapes[1][0]:
        raise Unsupported(f"shapes {shown(shapes[0])} and {shown(shapes[1])} do not match")
    try:
        shape = np.broadcast_shapes(*shapes)
    except ValueError:
        raise Unsupported(
            f"shapes {shown(shapes[0])} and {shown(shapes[1])} do not match"
        ) from None
    _check_loops(shape, shapes[0][1:], shapes[1][1:])
    context.emit(Node(Binary(kind), name, (left, right), output), shape, result_kind)


def _binary(kind: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        combine(context, kind, name, inputs[0], inputs[1], output)

    return convert


def _divide(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.kind(inputs[0]) == "f":
        combine(context, "div", name, inputs[0], inputs[1], output)
        return
    combine(context, "div", name, inputs[0], inputs[1], f"{output} unrounded")
    node = Node(Unary("truncate"), name, (f"{output} unrounded",), output)
    context.emit(node, context.shape(f"{output} unrounded"))


def _several(kind: str, mean: bool = False) -> Convert:
    """Combine one value or more, constants last; ``mean``: divided by how many there are."""

    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        left, *others = sorted(inputs, key=context.is_constant)
        total = f"{output} total" if mean else output
        if not others:
            context.emit(Node(Reshape(), name, (left,), total), context.shape(left))
        for i, right in enumerate(others, start=2):
            result = total if i == len(inputs) else f"{output} of {i}"
            combine(context, kind, name, left, right, result)
            left = result
        if mean:
            constant_binary(context, "div", name, total, output, np.array(len(inputs)))

    return convert


def _power(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    exponent = context.array(inputs[1]) if context.is_constant(inputs[1]) else np.zeros(0)
    if exponent.size == 1 and float(exponent.reshape(())) == 2.0:
        combine(context, "mul", name, inputs[0], inputs[0], output)
    else:
        combine(context, "power", name, inputs[0], inputs[1], output)


def _prelu(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """max(x, 0) + slope * min(x, 0)"""
    shape, slope = context.shape(inputs[0]), context.constant(inputs[1], "slope")
    above, below, scaled = (f"{output} {part}" for part in ("above", "below", "scaled"))
    for part, low, high in ((above, 0.0, math.inf), (below, -math.inf, 0.0)):
        context.emit(Node(Unary("clip", low, high), name, (inputs[0],), part), shape)
    constant_binary(context, "mul", name, below, scaled, slope)
    combine(context, "add", name, above, scaled, output)


def _selu(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """gamma * Elu(x)"""
    elu = Unary("elu", a.get("alpha", 1.6732632423543772))
    context.emit(Node(elu, name, (inputs[0],), f"{output} elu"), context.shape(inputs[0]))
    gamma = np.array(a.get("gamma", 1.0507009873554805))
    constant_binary(context, "mul", name, f"{output} elu", output, gamma)


def _celu(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """alpha * Elu(x / alpha)"""
    alpha = np.array(a.get("alpha", 1.0))
    constant_binary(context, "mul", name, inputs[0], f"{output} less", 1 / alpha)
    _selu(context, name, [f"{output} less"], output, {"alpha": 1.0, "gamma": float(alpha)})


def _soft_sign(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """x / (1 + |x|)"""
    value, size = inputs[0], f"{output} size"
    context.emit(Node(Unary("abs"), name, (value,), size), context.shape(value))
    constant_binary(context, "add", name, size, f"{output} divisor", np.ones(()))
    combine(context, "div", name, value, f"{output} divisor", output)


def _quotient(x: list[Array], a: Attributes) -> Array:
    if np.issubdtype(x[0].dtype, np.integer):
        return np.asarray(np.trunc(x[0] / x[1])).astype(x[0].dtype)
    return np.asarray(x[0] / x[1])


def arithmetic(convert: Convert | None, fold: Fold | None = None) -> Operator:
    """An operator on two values number by number, one repeated to the shape of the other."""
    return Operator(convert, fold, broadcast, "elementwise", pointwise if convert else None)


def of_two(function: Callable[[Array, Array], Array]) -> Fold:
    def fold(x: list[Array], a: Attributes) -> Array:
        left, right = x
        return np.asarray(function(left, right))

    return fold


def _of_all(function: Callable[[Array, Array], Array]) -> Fold:
    return lambda x, a: np.asarray(reduce(function, x))


BINARY: Operators = {
    "Add": arithmetic(_binary("add"), of_two(np.add)),
    "Sub": arithmetic(_binary("sub"), lambda x, a: np.asarray(x[0] - x[1])),
    "Mul": arithmetic(_binary("mul"), of_two(np.multiply)),
    "Div": arithmetic(_divide, _quotient),
    "Min": arithmetic(_several("min"), _of_all(np.minimum)),
    "Max": arithmetic(_several("max"), _of_all(np.maximum)),
    "Sum": arithmetic(_several("add"), _of_all(np.add)),
    "Mean": arithmetic(
        _several("add", mean=True), lambda x, a: _of_all(np.add)(x, a) / np.float32(len(x))
    ),
    "Mod": arithmetic(
        None, lambda x, a: np.asarray((np.fmod if a.get("fmod") else np.mod)(x[0], x[1]))
    ),
    "Pow": arithmetic(_power, lambda x, a: np.power(x[0], x[1])),
    "PRelu": Operator(_prelu, turned=pointwise),
    "Selu": Operator(_selu, turned=pointwise),
    "Celu": Operator(_celu, turned=pointwise),
    "Softsign": Operator(_soft_sign, turned=pointwise),
}
