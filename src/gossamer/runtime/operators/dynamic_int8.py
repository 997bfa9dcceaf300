"""Quantization by the range of each input: DynamicQuantizeLinear, and the products that follow.

The engine's numbers are the quantized values times their scale, and its scale is one: a product
that is multiplied by the scale later has it already. ``Value.units`` counts, for each node of
this operator (by its output), how many times its scale is in a value of the engine and not in the
file's; so whatever reads such a value has to be a product that settles the count, or is refused.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from gossamer.runtime.operators.binary import combine, constant_binary
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BATCH, Context, Unsupported
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.pools import reduced
from gossamer.runtime.operators.reshape import Reshape

PRODUCTS = {"Conv", "ConvInteger", "DequantizeLinear", "MatMul", "MatMulInteger", "Mul"}
MOVES = {"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

# Scales below it are numbers that the processor may take for zero.
SMALLEST = float(np.finfo(np.float32).tiny)


def units_of(context: Context, operator: str, inputs: list[str]) -> dict[str, int]:
    """The units of an operator's output; raises where its inputs may not be used so."""
    known = {value: context.values[value].units for value in inputs if value in context.values}
    if not any(known.values()):
        return {}
    values = inputs
    if operator == "DequantizeLinear":
        values = inputs[:2]
        sources = known[inputs[0]].keys()
        zeros = known.get(inputs[2] if len(inputs) > 2 else "", {})
        fits = dict.fromkeys(sources, 0) == zeros
    else:
        zeros = {}
        fits = operator in PRODUCTS or (operator in MOVES and not any(map(known.get, inputs[1:])))
        if operator in ("ConvInteger", "MatMulInteger"):  # their own calls are looked at
            return {}
    total = Counter[str]()
    for value in values:
        total.update(known.get(value, {}))
        fits = fits and 0 not in known.get(value, {}).values()
    if not fits:
        raise Unsupported("it reads what DynamicQuantizeLinear computes, other than in a product")
    return {source: count for source, count in total.items() if count}


def _quantize(context: Context, call: Call) -> None:
    """Quantize each example or, where the batch is fixed, the whole batch, as ONNX defines it."""
    value, shape = call.value, context.shape(call.value)
    batch = BATCH if context.batch == BATCH else 1
    flat = context.emit(Reshape(), value, shape=(batch, math.prod(shape) // batch))
    over, under = (
        context.emit(Unary("clip", 0.0, math.inf), reduced(context, "max", side, [1]))
        for side in (flat, context.emit(Unary("neg"), flat))
    )
    span = constant_binary(context, "div", combine(context, "add", over, under), 255)
    step = constant_binary(context, "max", span, SMALLEST)

    def in_steps(source: str) -> str:
        return context.emit(Unary("round"), combine(context, "div", source, step))

    clip = Unary("clip", 0.0, 255.0)
    steps, zero = in_steps(flat), context.emit(clip, in_steps(under))
    codes = context.emit(clip, combine(context, "add", steps, zero))
    numbers = combine(context, "mul", combine(context, "sub", codes, zero), step)
    context.emit(Reshape(), numbers, call.output, shape)
    context.values[call.output].units = {call.output: 1}
    constants = [(1, np.float32, -1), (0, np.uint8, 0)]
    for result, (constant, dtype, count) in zip(call.outputs[1:], constants, strict=False):
        context.add_constant(result, np.array(constant, dtype))
        context.values[result].units = {call.output: count}


DYNAMIC_INT8: Operators = {"DynamicQuantizeLinear": Operator(_quantize)}
