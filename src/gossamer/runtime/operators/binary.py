"""Elementwise arithmetic on two values, or on a value and a constant.

The kinds of ``Binary`` are the rows of the table in ``kernels/kinds.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from gossamer.kernels._kernels import BINARY as KINDS
from gossamer.kernels.registry import loops
from gossamer.runtime.c.loops import expression, index, names, nested
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Shape, Single, merged, repeating, strides
from gossamer.runtime.lowering.layouts import Lowering, Value
from gossamer.runtime.operators.batch_axis import pointwise
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import BATCH, Context, numbers, shown
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.folding import broadcast
from gossamer.runtime.operators.operator import Convert, Fold, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.strided import expand
from gossamer.runtime.operators.unsupported import Unsupported

LOOPS = loops("binary")  # the most dimensions of a result

# The kind that computes the same with its operands swapped; the other kinds have none.
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
    """Return the shape [channels, ...] of one image with the channels last."""
    return (*shape[1:], shape[0])


def _stays_last(lowering: Lowering, values: list[Value], shape: Shape) -> bool:
    """Whether the operands can be combined in the channels-last layout they already have."""
    left, other = values[0], values[-1]
    if lowering.layout(left) != "last" or left.shape != shape or not 3 <= len(shape) <= 5:
        return False
    alike = 1 in (other.pixels, other.channels)  # both layouts are the same
    if other.channels not in (1, left.channels) or other.channels != other.shape[1]:
        return False
    return other.shape == shape or alike or lowering.layout(other) == "last"


@dataclass(frozen=True)
class Binary(Single):
    """An elementwise function of two values, or of one value and the constant ``right``."""

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
        missing = LOOPS - len(sizes)
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
            items=result.items,
        )

    def write(self, writer: Writer, node: AnyNode) -> None:
        """Write nested loops over one item of the result; repeated dimensions have stride 0."""
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
    value: str,
    constant: Array | float,
    output: str = "",
    result_kind: str | None = None,
) -> str:
    """Combine a value with a constant that is the same for all examples.

    Returns the name of the result, as ``Context.emit`` does.
    """
    shape = context.shape(value)
    right = numbers(constant)
    while right.ndim >= len(shape) and right.ndim and right.shape[0] == 1:
        right = right[0]
    wide = np.broadcast_shapes(shape[1:], right.shape)
    if len(wide) != len(shape) - 1:
        raise Unsupported(f"a constant of shape {right.shape} does not fit {shown(shape)}")
    if wide != shape[1:]:
        shape = (shape[0], *wide)
        value = expand(context, value, shape)
    _check_loops(shape, shape[1:], right.shape)
    return context.emit(Binary(kind), value, output, shape, result_kind, {"right": right})


def _check_loops(shape: Shape, left: Shape, right: Shape) -> None:
    """Raise where the operands have more dimensions than the kernel loops over.

    Neighboring dimensions that are contiguous in both operands count as one.
    """
    within = shape[1:]
    if len(merged(within, repeating(left, within), repeating(right, within))[0]) > LOOPS:
        raise Unsupported(f"it broadcasts to {shown(shape)} along too many dimensions")


def _each(
    context: Context, kind: str, value: str, constant: Array, output: str, result_kind: str | None
) -> str:
    """Combine a value with several rows per example with a constant of as many rows."""
    shape, count = context.shape(value), len(constant)
    if shape[0] != count * BATCH or constant.ndim != len(shape):
        raise Unsupported(f"a constant of {count} rows per example does not fit {shown(shape)}")
    apart = context.emit(Reshape(), value, shape=(BATCH, count, *shape[1:]))
    result = constant_binary(context, kind, apart, constant[None], "", result_kind)
    (_, _, *rest) = context.shape(result)
    return context.emit(Reshape(), result, output, (shape[0], *rest))


def combine(
    context: Context,
    kind: str,
    left: str,
    right: str,
    output: str = "",
    result_kind: str | None = None,
) -> str:
    """Combine two values, or a value and a constant on either side.

    Returns the name of the result, as ``Context.emit`` does.
    """
    if context.is_constant(left):
        if kind in MIRROR:
            left, right, kind = right, left, MIRROR[kind]
        elif kind in ("sub", "div"):  # c - x = -x + c, c / x = 1/x * c
            first, kind = ("neg", "add") if kind == "sub" else ("reciprocal", "mul")
            left, right = context.emit(Unary(first), right), left
        else:
            raise Unsupported("it raises a constant to the power of a value")
    if context.is_constant(right):
        repeated = context.values[right].repeated and context.shape(right)[0] > BATCH
        function = _each if repeated else constant_binary
        return function(context, kind, left, context.array(right), output, result_kind)
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
    return context.emit(Binary(kind), (left, right), output, shape, result_kind)


def binary(kind: str, result_kind: str | None = None) -> Convert:
    def convert(context: Context, call: Call) -> None:
        combine(context, kind, call.value, call.inputs[1], call.output, result_kind)

    return convert


def _divide(context: Context, call: Call) -> None:
    if context.kind(call.value) == "f":
        combine(context, "div", call.value, call.inputs[1], call.output)
    else:
        quotient = combine(context, "div", call.value, call.inputs[1])
        context.emit(Unary("truncate"), quotient, call.output)


def _several(kind: str, mean: bool = False) -> Convert:
    """Return the conversion of an operator on any number of inputs; ``mean`` divides the sum."""

    def convert(context: Context, call: Call) -> None:
        total, *others = sorted(call.inputs, key=context.is_constant)
        output = "" if mean else call.output
        if not others:
            total = context.emit(Reshape(), total, output)
        for i, right in enumerate(others, start=2):
            total = combine(context, kind, total, right, output if i == len(call.inputs) else "")
        if mean:
            constant_binary(context, "div", total, len(call.inputs), call.output)

    return convert


def _power(context: Context, call: Call) -> None:
    value, power = call.inputs
    exponent = context.array(power) if context.is_constant(power) else np.zeros(0)
    if exponent.size == 1 and float(exponent.reshape(())) == 2.0:
        combine(context, "mul", value, value, call.output)
    else:
        combine(context, "power", value, power, call.output)


def _prelu(context: Context, call: Call) -> None:
    """max(x, 0) + slope * min(x, 0)"""
    slope = context.constant(call.inputs[1], "slope")
    above = context.emit(Unary("clip", 0.0, math.inf), call.value)
    below = context.emit(Unary("clip", -math.inf, 0.0), call.value)
    scaled = constant_binary(context, "mul", below, slope)
    combine(context, "add", above, scaled, call.output)


def _selu(context: Context, call: Call) -> None:
    """gamma * Elu(x)"""
    elu = context.emit(Unary("elu", call.get("alpha", 1.6732632423543772)), call.value)
    constant_binary(context, "mul", elu, call.get("gamma", 1.0507009873554805), call.output)


def _celu(context: Context, call: Call) -> None:
    """alpha * Elu(x / alpha)"""
    alpha = float(call.get("alpha", 1.0))
    if alpha <= 0:
        raise Unsupported(f"its alpha is {alpha:g}; it must be above 0")
    elu = context.emit(Unary("elu", 1.0), constant_binary(context, "mul", call.value, 1 / alpha))
    constant_binary(context, "mul", elu, alpha, call.output)


def _soft_sign(context: Context, call: Call) -> None:
    """x / (1 + |x|)"""
    divisor = constant_binary(context, "add", context.emit(Unary("abs"), call.value), 1.0)
    combine(context, "div", call.value, divisor, call.output)


def _quotient(x: list[Array], a: Attributes) -> Array:
    if np.issubdtype(x[0].dtype, np.integer):
        return np.asarray(np.trunc(x[0] / x[1])).astype(x[0].dtype)
    return np.asarray(x[0] / x[1])


def arithmetic(convert: Convert | None, fold: Fold) -> Operator:
    """Return the record of an elementwise operator on two broadcast inputs."""
    return Operator(convert, fold, broadcast, "elementwise", pointwise if convert else None)


def of_two(function: Callable[[Array, Array], Array]) -> Fold:
    def fold(x: list[Array], a: Attributes) -> Array:
        left, right = x
        return np.asarray(function(left, right))

    return fold


def _of_all(function: Callable[[Array, Array], Array]) -> Fold:
    return lambda x, a: np.asarray(reduce(function, x))


BINARY: Operators = {
    "Add": arithmetic(binary("add"), of_two(np.add)),
    "Sub": arithmetic(binary("sub"), lambda x, a: np.asarray(x[0] - x[1])),
    "Mul": arithmetic(binary("mul"), of_two(np.multiply)),
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
    "Pow": arithmetic(_power, lambda x, a: np.power(x[0], x[1]).astype(x[0].dtype)),
    "PRelu": Operator(_prelu, turned=pointwise),
    "Selu": Operator(_selu, turned=pointwise),
    "Celu": Operator(_celu, turned=pointwise),
    "Softsign": Operator(_soft_sign, turned=pointwise),
}
