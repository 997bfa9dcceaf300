"""Elementwise operators on one value.

The kinds of ``Unary`` are the rows of the table in ``kernels/kinds.h``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gossamer.kernels._kernels import UNARY
from gossamer.runtime.c.loops import expression
from gossamer.runtime.c.tables import number
from gossamer.runtime.c.writer import Writer, clipped
from gossamer.runtime.graph import AnyNode, Array, Single
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.batch_axis import pointwise
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context
from gossamer.runtime.operators.folding import LEFT_OUT
from gossamer.runtime.operators.operator import Convert, Fold, Operator, Operators
from gossamer.runtime.packing import limits

ZERO_AT_ZERO = (
    *("gelu", "gelu_tanh", "tanh", "erf", "leaky_relu", "silu", "hard_swish", "mish", "elu"),
    *("sqrt", "neg", "abs", "truncate", "floor", "ceil", "round", "sign", "sin"),
)


@dataclass(frozen=True)
class Unary(Single):
    """An elementwise function: the expression of its kind in the number ``v``, with a and b."""

    op = "unary"

    kind: str
    a: float = 0.0
    b: float = 0.0

    @property
    def keeps_zero(self) -> bool:
        return self.kind in ZERO_AT_ZERO or (self.kind == "clip" and self.a <= 0 <= self.b)

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        kind = {"kind": list(UNARY).index(self.kind)}
        lowering.each(node, kind, [limits(self.a, self.b)], keeps_zero=self.keeps_zero)

    def write(self, writer: Writer, node: AnyNode) -> None:
        if self.kind == "clip":
            step = "\n    ".join(clipped(self.a, self.b))
        else:
            a, b = (number(limit) for limit in (self.a, self.b))
            step = f"v = {expression(UNARY[self.kind], v='v', a=a, b=b)};"
        body = f"""
for (i = 0; i < {writer.size(node.output)}; ++i) {{
    float v = x[i];
    {step}
    y[i] = v;
}}"""
        writer.function(node, "i", body)


def _unary(kind: str, a: float = 0.0, b: float = 0.0) -> Convert:
    def convert(context: Context, call: Call) -> None:
        tanh = kind == "gelu" and call.get("approximate") == "tanh"
        each = Unary("gelu_tanh" if tanh else kind, call.get("alpha", a), call.get("beta", b))
        context.emit(each, call.value, call.output)

    return convert


def _clip_between(context: Context, call: Call) -> None:
    limits = [-math.inf, math.inf]
    for i in range(2):
        if limit := call.optional(i + 1):
            limits[i] = float(context.constant(limit, "limits").reshape(()))
    low, high = limits
    context.emit(Unary("clip", min(low, high), high), call.value, call.output)


def _clip_constant(x: list[Array], a: Attributes) -> Array:
    bounds = [None if limit is LEFT_OUT else limit for limit in x[1:]]
    low, high, *_ = [*bounds, None, None]
    return np.asarray(np.clip(x[0], low, high))


def _of(function: Callable[[Array], Array]) -> Fold:
    return lambda x, a: np.asarray(function(x[0]))


def _each(convert: Convert, function: Callable[[Array], Array] | None = None) -> Operator:
    """Return the record of an operator of a kind, folded by a NumPy function."""
    fold = None if function is None else _of(function)
    return Operator(convert, fold, shared="pointwise", turned=pointwise)


ELEMENTWISE: Operators = {
    "Relu": _each(_unary("clip", 0.0, math.inf), lambda x: np.maximum(x, 0)),
    "Clip": Operator(_clip_between, _clip_constant, shared="pointwise", turned=pointwise),
    "Gelu": _each(_unary("gelu")),
    "Sigmoid": _each(_unary("sigmoid"), lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": _each(_unary("tanh"), np.tanh),
    "Erf": _each(_unary("erf")),
    "Elu": _each(_unary("elu", 1.0)),
    "LeakyRelu": _each(_unary("leaky_relu", 0.01)),
    "HardSigmoid": _each(_unary("hard_sigmoid", 0.2, 0.5)),
    "HardSwish": _each(_unary("hard_swish", 1 / 6, 0.5)),
    "Mish": _each(_unary("mish")),
    "Softplus": _each(_unary("softplus")),
    "Sqrt": _each(_unary("sqrt"), np.sqrt),
    "Exp": _each(_unary("exp"), np.exp),
    "Abs": _each(_unary("abs"), np.abs),
    "Neg": _each(_unary("neg"), np.negative),
    "Reciprocal": _each(_unary("reciprocal"), lambda x: 1 / x),
    "Log": _each(_unary("log"), np.log),
    "Cos": _each(_unary("cos"), np.cos),
    "Sin": _each(_unary("sin"), np.sin),
    "Floor": _each(_unary("floor"), np.floor),
    "Ceil": _each(_unary("ceil"), np.ceil),
    "Round": _each(_unary("round"), np.round),
    "Sign": _each(_unary("sign"), np.sign),
}
