"""Operators that treat every number alike, with one value, two, or a constant."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Node
from gossamer.runtime.importer.reader import Attributes, Convert, Reader, Unsupported, floats, shown


def unlimited(node: Node) -> bool:
    """Whether no clip follows a conv or linear node."""
    return (node.settings["low"], node.settings["high"]) == (-math.inf, math.inf)


def unclipped(node: Node) -> bool:
    """Whether neither clip nor max-pool follows a conv or linear node."""
    return unlimited(node) and bool(node.settings.get("pool", 1) == 1)


def constant_binary(
    reader: Reader, kind: str, name: str, value: str, output: str, constant: Array
) -> None:
    """A value and a constant that lies within each example."""
    shape = reader.shape(value)
    right = np.ascontiguousarray(constant, np.float32)
    while right.ndim >= len(shape) and right.ndim and right.shape[0] == 1:
        right = right[0]
    if np.broadcast_shapes(shape[1:], right.shape) != shape[1:]:
        raise Unsupported(f"a constant of shape {right.shape} against {shown(shape)}")
    node = Node("binary", name, (value,), output, {"kind": kind}, {"right": right})
    reader.emit(node, shape)


def _binary(kind: str) -> Convert:
    def convert(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
        left, right = inputs
        if left in reader.constants:
            if kind in ("add", "mul"):
                left, right = right, left
            else:
                # c - x = -x + c, c / x has no such form
                if kind == "div":
                    raise Unsupported("it divides a constant by a value")
                reader.emit(
                    Node("unary", name, (right,), f"{output} negated", {"kind": "neg"}),
                    reader.shape(right),
                )
                constant_binary(
                    reader,
                    "add",
                    name,
                    f"{output} negated",
                    output,
                    floats(reader.constants[left]),
                )
                return
        if right in reader.constants:
            constant = floats(reader.constants[right])
            before = reader.alone(left, "linear")
            if (
                kind == "add"
                and before is not None
                and unclipped(before)
                and (constant.shape in ((reader.shape(left)[-1],), (1,), ()))
            ):
                before.constants["bias"] = before.constants["bias"] + constant
                reader.rename(before, output)
                return
            constant_binary(reader, kind, name, left, output, constant)
            return
        shapes = reader.shape(left), reader.shape(right)
        if len(shapes[0]) < len(shapes[1]) and kind in ("add", "mul"):
            left, right, shapes = right, left, shapes[::-1]
        if len(shapes[0]) != len(shapes[1]) or shapes[0][0] != shapes[1][0]:
            raise Unsupported(f"shapes {shown(shapes[0])} and {shown(shapes[1])} do not match")
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise Unsupported(
                f"shapes {shown(shapes[0])} and {shown(shapes[1])} do not match"
            ) from None
        reader.emit(Node("binary", name, (left, right), output, {"kind": kind}), shape)

    return convert


def _unary(kind: str, a: float = 0.0, b: float = 0.0) -> Convert:
    def convert(
        reader: Reader, name: str, inputs: list[str], output: str, given: Attributes
    ) -> None:
        settings = {"kind": kind, "a": given.get("alpha", a), "b": given.get("beta", b)}
        if kind == "gelu" and given.get("approximate", "none") == "tanh":
            settings["kind"] = "gelu_tanh"
        reader.emit(Node("unary", name, (inputs[0],), output, settings), reader.shape(inputs[0]))

    return convert


def _clip(
    reader: Reader, name: str, inputs: list[str], output: str, low: float, high: float
) -> None:
    before = reader.alone(inputs[0], "conv", "linear")
    if before is not None and unlimited(before):  # a max-pool between changes nothing
        before.settings.update(low=low, high=high)
        reader.rename(before, output)
        return
    settings = {"kind": "clip", "a": low, "b": high}
    reader.emit(Node("unary", name, (inputs[0],), output, settings), reader.shape(inputs[0]))


def _relu(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    _clip(reader, name, inputs, output, 0.0, math.inf)


def _clip_between(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    limits = [-math.inf, math.inf]
    for i in range(2):
        if len(inputs) > i + 1 and inputs[i + 1]:
            limits[i] = float(reader.constant(inputs[i + 1], "limits").reshape(()))
    _clip(reader, name, inputs, output, limits[0], limits[1])


def _hard_swish(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape, gate = reader.shape(inputs[0]), f"{output} gate"
    settings = {"kind": "hard_sigmoid", "a": 1 / 6, "b": 0.5}
    reader.emit(Node("unary", name, (inputs[0],), gate, settings), shape)
    reader.emit(Node("binary", name, (inputs[0], gate), output, {"kind": "mul"}), shape)


ELEMENTWISE: dict[str, Convert] = {
    "Relu": _relu,
    "Clip": _clip_between,
    "Gelu": _unary("gelu"),
    "Sigmoid": _unary("sigmoid"),
    "Tanh": _unary("tanh"),
    "Erf": _unary("erf"),
    "LeakyRelu": _unary("leaky_relu", 0.01),
    "HardSigmoid": _unary("hard_sigmoid", 0.2, 0.5),
    "HardSwish": _hard_swish,
    "Sqrt": _unary("sqrt"),
    "Exp": _unary("exp"),
    "Neg": _unary("neg"),
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Div": _binary("div"),
}
