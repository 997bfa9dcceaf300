"""Operators that treat every number of one value alike."""

from __future__ import annotations

import math

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.reader import Attributes, Convert, Reader


def unlimited(node: Node) -> bool:
    """Whether no clip follows a conv or linear node."""
    return (node.settings["low"], node.settings["high"]) == (-math.inf, math.inf)


def unclipped(node: Node) -> bool:
    """Whether neither clip nor max-pool follows a conv or linear node."""
    return unlimited(node) and bool(node.settings.get("pool", 1) == 1)


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


def _mish(reader: Reader, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape, soft, gate = reader.shape(inputs[0]), f"{output} softplus", f"{output} gate"
    reader.emit(Node("unary", name, (inputs[0],), soft, {"kind": "softplus"}), shape)
    reader.emit(Node("unary", name, (soft,), gate, {"kind": "tanh"}), shape)
    reader.emit(Node("binary", name, (inputs[0], gate), output, {"kind": "mul"}), shape)


ELEMENTWISE: dict[str, Convert] = {
    "Relu": _relu,
    "Clip": _clip_between,
    "Gelu": _unary("gelu"),
    "Sigmoid": _unary("sigmoid"),
    "Tanh": _unary("tanh"),
    "Erf": _unary("erf"),
    "Elu": _unary("elu", 1.0),
    "LeakyRelu": _unary("leaky_relu", 0.01),
    "HardSigmoid": _unary("hard_sigmoid", 0.2, 0.5),
    "HardSwish": _hard_swish,
    "Mish": _mish,
    "Softplus": _unary("softplus"),
    "Sqrt": _unary("sqrt"),
    "Exp": _unary("exp"),
    "Abs": _unary("abs"),
    "Neg": _unary("neg"),
    "Reciprocal": _unary("reciprocal"),
}
