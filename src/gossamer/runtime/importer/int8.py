"""Operators on 8-bit integers as ones on floats, between DequantizeLinear and QuantizeLinear.

Those of the domain ``com.microsoft`` are what ONNX Runtime's quantizer writes (``QOperator``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gossamer.runtime.importer.calls import Calls
from gossamer.runtime.importer.dynamic_matmul import dynamic_matmul
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context
from gossamer.runtime.operators.unsupported import Unsupported

Rule = Callable[[Context, int, Call], list[Call]]


def _floats(calls: Calls, at: int, axis: int = 1) -> str:
    """Dequantize the inputs from ``at`` on: integers, scale, zero point."""
    return calls.add("DequantizeLinear", *calls.call.inputs[at : at + 3], axis=axis)


def _codes(calls: Calls, value: str, at: int) -> list[Call]:
    """Quantize a result by the scale and zero point in the inputs from ``at`` on."""
    call, grid = calls.call, calls.call.inputs[at : at + 2]
    calls.all.append(Call("QuantizeLinear", call.name, [value, *grid], call.outputs, {}))
    return calls.all


def _bias(calls: Calls, at: int) -> list[str]:
    """Return the bias of a layer, if it has one: in steps of its input's times its weight's."""
    context, call = calls.context, calls.call
    if not (named := call.optional(at)):
        return []
    codes = context.constant(named, "bias").astype(np.float64)
    steps = (context.constant(call.inputs[i], "scale").astype(np.float64) for i in (1, 4))
    return [calls.constant((codes * math.prod(steps, start=np.ones(()))).astype(np.float32))]


def _conv(context: Context, opset: int, call: Call) -> list[Call]:
    calls = Calls(context, call)
    inputs = [_floats(calls, 0), _floats(calls, 3, axis=0), *_bias(calls, 8)]
    return _codes(calls, calls.add("Conv", *inputs, **call.attributes), 6)


def _gemm(context: Context, opset: int, call: Call) -> list[Call]:
    a, calls = call.attributes, Calls(context, call)
    axis = 0 if a.get("transB") else 1
    inputs = [_floats(calls, 0), _floats(calls, 3, axis), *_bias(calls, 6)]
    if a.get("alpha", 1.0) != 1 or not call.optional(7):
        raise Unsupported("it scales its product, or has no scale of its result; export without")
    return _codes(calls, calls.add("Gemm", *inputs, **a), 7)


def _two(operator: str, axis: int = 1) -> Rule:
    def rule(context: Context, opset: int, call: Call) -> list[Call]:
        calls = Calls(context, call)
        sides = [_floats(calls, at, axis) for at in (0, 3)]
        return _codes(calls, calls.add(operator, *sides, **call.attributes), 6)

    return rule


def _one(operator: str) -> Rule:
    def rule(context: Context, opset: int, call: Call) -> list[Call]:
        a, calls = dict(call.attributes), Calls(context, call)
        if a.pop("channels_last", 0):
            raise Unsupported("its channels are last; export it with channels first")
        if a.pop("opset", 13) < 13:
            raise Unsupported("it works over all dimensions from its axis on; quantize at opset 13")
        return _codes(calls, calls.add(operator, _floats(calls, 0), **a), 3)

    return rule


def _concat(context: Context, opset: int, call: Call) -> list[Call]:
    calls = Calls(context, call)
    parts = [_floats(calls, at) for at in range(2, len(call.inputs), 3)]
    return _codes(calls, calls.add("Concat", *parts, **call.attributes), 0)


def _integer(operator: str, axis: int) -> Rule:
    """Rewrite a product of integers, less their zero points, with 32-bit results."""

    def rule(context: Context, opset: int, call: Call) -> list[Call]:
        calls, one = Calls(context, call), np.float32(1)
        zeros = [*call.inputs[2:], "", ""][:2]
        sides = [
            calls.add("DequantizeLinear", value, one, *filter(None, [zero]), axis=axis)
            for value, zero in zip(call.inputs[:2], zeros, strict=True)
        ]
        total = calls.add(operator, *sides, **call.attributes)
        calls.result("Cast", total, call.output, to=6)
        return calls.all

    return rule


def _integer_matmul(context: Context, opset: int, call: Call) -> list[Call]:
    return dynamic_matmul(context, call) or _integer("MatMul", -1)(context, opset, call)


INT8: dict[str, Rule] = {
    "ConvInteger": _integer("Conv", 0),
    "MatMulInteger": _integer_matmul,
    "QLinearConv": _conv,
    "QLinearMatMul": _two("MatMul", -1),
    "com.microsoft.QGemm": _gemm,
    "com.microsoft.QLinearAdd": _two("Add"),
    "com.microsoft.QLinearAveragePool": _one("AveragePool"),
    "com.microsoft.QLinearConcat": _concat,
    "com.microsoft.QLinearGlobalAveragePool": _one("GlobalAveragePool"),
    "com.microsoft.QLinearLeakyRelu": _one("LeakyRelu"),
    "com.microsoft.QLinearMul": _two("Mul"),
    "com.microsoft.QLinearSigmoid": _one("Sigmoid"),
    "com.microsoft.QLinearSoftmax": _one("Softmax"),
}
