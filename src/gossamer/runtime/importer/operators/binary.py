"""Arithmetic on two values, or on a value and a constant."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Node, Shape, merged, repeating
from gossamer.runtime.importer.context import (
    BATCH,
    Attributes,
    Context,
    Convert,
    Unsupported,
    numbers,
    shown,
)
from gossamer.runtime.importer.operators.elementwise import unclipped
from gossamer.runtime.importer.operators.layout_ops import expand

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


def constant_binary(
    context: Context,
    kind: str,
    name: str,
    value: str,
    output: str,
    constant: Array,
    holds: str | None = None,
) -> None:
    """A value and a constant that lies within each example; ``holds`` as in ``emit``."""
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
    node = Node("binary", name, (value,), output, {"kind": kind}, {"right": right})
    context.emit(node, shape, holds)


def _check_loops(shape: Shape, left: Shape, right: Shape) -> None:
    """What the kernel can go through: four dimensions, of any number that lie together."""
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
    holds: str | None,
) -> None:
    """A value that has several entries for each example, and a constant of as many."""
    shape, count = context.shape(value), len(constant)
    if shape[0] != count * BATCH or constant.ndim != len(shape):
        raise Unsupported(f"a constant of {count} entries for each example of {shown(shape)}")
    apart, result = f"{output} apart", f"{output} of each"
    context.emit(Node("reshape", name, (value,), apart), (BATCH, count, *shape[1:]))
    constant_binary(context, kind, name, apart, result, constant[None], holds)
    (_, _, *rest) = context.shape(result)
    context.emit(Node("reshape", name, (result,), output), (shape[0], *rest))


def combine(
    context: Context,
    kind: str,
    name: str,
    left: str,
    right: str,
    output: str,
    holds: str | None = None,
) -> None:
    """Two values, or a value and a constant on either side; ``holds`` as in ``emit``."""
    if context.is_constant(left):
        if kind in MIRROR:
            left, right, kind = right, left, MIRROR[kind]
        elif kind in ("sub", "div"):  # c - x = -x + c, c / x = 1/x * c
            first, kind = ("neg", "add") if kind == "sub" else ("reciprocal", "mul")
            turned = f"{output} {first}"
            context.emit(
                Node("unary", name, (right,), turned, {"kind": first}), context.shape(right)
            )
            left, right = turned, left
        else:
            raise Unsupported("it raises a constant to the power of a value")
    if context.is_constant(right):
        constant = context.array(right)
        before = context.alone(left, "linear")
        if (
            kind == "add"
            and before is not None
            and unclipped(before)
            and (constant.shape in ((context.shape(left)[-1],), (1,), ()))
        ):
            before.constants["bias"] = before.constants["bias"] + numbers(constant)
            context.rename(before, output)
            return
        if context.values[right].repeated and context.shape(right)[0] > BATCH:
            _each(context, kind, name, left, output, constant, holds)
        else:
            constant_binary(context, kind, name, left, output, constant, holds)
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
    context.emit(Node("binary", name, (left, right), output, {"kind": kind}), shape, holds)


def _binary(kind: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        combine(context, kind, name, inputs[0], inputs[1], output)

    return convert


def _divide(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.kind(inputs[0]) == "f":
        combine(context, "div", name, inputs[0], inputs[1], output)
        return
    combine(context, "div", name, inputs[0], inputs[1], f"{output} unrounded")
    node = Node("unary", name, (f"{output} unrounded",), output, {"kind": "truncate"})
    context.emit(node, context.shape(f"{output} unrounded"))


def _several(kind: str) -> Convert:
    def convert(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        if len(inputs) < 2:
            raise Unsupported("it has fewer than two inputs")
        left = inputs[0]
        for i, right in enumerate(inputs[1:], start=2):
            result = output if i == len(inputs) else f"{output} of {i}"
            combine(context, kind, name, left, right, result)
            left = result

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
        settings = {"kind": "clip", "a": low, "b": high}
        context.emit(Node("unary", name, (inputs[0],), part, settings), shape)
    constant_binary(context, "mul", name, below, scaled, slope)
    combine(context, "add", name, above, scaled, output)


def _selu(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """gamma * Elu(x)"""
    settings = {"kind": "elu", "a": a.get("alpha", 1.6732632423543772), "b": 0.0}
    node = Node("unary", name, (inputs[0],), f"{output} elu", settings)
    context.emit(node, context.shape(inputs[0]))
    gamma = np.array(a.get("gamma", 1.0507009873554805))
    constant_binary(context, "mul", name, f"{output} elu", output, gamma)


def _celu(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """alpha * Elu(x / alpha)"""
    alpha = np.array(a.get("alpha", 1.0))
    constant_binary(context, "mul", name, inputs[0], f"{output} less", 1 / alpha)
    settings = {"alpha": 1.0, "gamma": float(alpha)}
    _selu(context, name, [f"{output} less"], output, settings)


def _soft_sign(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    """x / (1 + |x|)"""
    value, size = inputs[0], f"{output} size"
    context.emit(Node("unary", name, (value,), size, {"kind": "abs"}), context.shape(value))
    constant_binary(context, "add", name, size, f"{output} divisor", np.ones(()))
    combine(context, "div", name, value, f"{output} divisor", output)


BINARY: dict[str, Convert] = {
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _divide,
    "Min": _several("min"),
    "Max": _several("max"),
    "Pow": _power,
    "PRelu": _prelu,
    "Selu": _selu,
    "Celu": _celu,
    "Softsign": _soft_sign,
}
