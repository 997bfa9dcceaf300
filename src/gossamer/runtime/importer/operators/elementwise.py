"""Operators that treat every number of one value alike."""

from __future__ import annotations

import math

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.context import Attributes, Context, Convert


def unlimited(node: Node) -> bool:
    """Whether no clip follows a conv or linear node."""
    return (node.settings["low"], node.settings["high"]) == (-math.inf, math.inf)


def unclipped(node: Node) -> bool:
    """Whether neither clip nor max-pool follows a conv or linear node."""
    return unlimited(node) and bool(node.settings.get("pool", 1) == 1)


def _unary(kind: str, a: float = 0.0, b: float = 0.0) -> Convert:
    def convert(
        context: Context, name: str, inputs: list[str], output: str, given: Attributes
    ) -> None:
        settings = {"kind": kind, "a": given.get("alpha", a), "b": given.get("beta", b)}
        if kind == "gelu" and given.get("approximate", "none") == "tanh":
            settings["kind"] = "gelu_tanh"
        context.emit(Node("unary", name, (inputs[0],), output, settings), context.shape(inputs[0]))

    return convert


def _clip(
    context: Context, name: str, inputs: list[str], output: str, low: float, high: float
) -> None:
    before = context.alone(inputs[0], "conv", "linear")
    if before is not None and unlimited(before):  # a max-pool between changes nothing
        before.settings.update(low=low, high=high)
        context.rename(before, output)
        return
    settings = {"kind": "clip", "a": low, "b": high}
    context.emit(Node("unary", name, (inputs[0],), output, settings), context.shape(inputs[0]))


def _relu(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    _clip(context, name, inputs, output, 0.0, math.inf)


def _clip_between(
    context: Context, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    limits = [-math.inf, math.inf]
    for i in range(2):
        if len(inputs) > i + 1 and inputs[i + 1]:
            limits[i] = float(context.constant(inputs[i + 1], "limits").reshape(()))
    _clip(context, name, inputs, output, limits[0], limits[1])


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
    "HardSwish": _unary("hard_swish", 1 / 6, 0.5),
    "Mish": _unary("mish"),
    "Softplus": _unary("softplus"),
    "Sqrt": _unary("sqrt"),
    "Exp": _unary("exp"),
    "Abs": _unary("abs"),
    "Log": _unary("log"),
    "Floor": _unary("floor"),
    "Ceil": _unary("ceil"),
    "Round": _unary("round"),
    "Sign": _unary("sign"),
    "Sin": _unary("sin"),
    "Cos": _unary("cos"),
    "Neg": _unary("neg"),
    "Reciprocal": _unary("reciprocal"),
}
