"""Quantization by the range of each input: DynamicQuantizeLinear, and the products that follow.

In the file, the operator outputs integer codes, a scale and a zero point. The engine stores the
dequantized values (codes less zero point, times scale) instead of the codes, a scale of one and a
zero point of zero, so that the file's later multiplication by the scale changes nothing.
``Value.units`` counts, for each such node, how often its scale (or zero point) is missing as a
factor (or addend) of a value in the file, but not in the engine's; negative counts are the reverse.
An operator that reads a value with units must first subtract the zero point, then be a product that
brings the count of scales to zero. Quantizers also write a bias as codes: they divide it by the
scale, round it down and add it to the sum of a product, whose scale is missing alike. Any other use
is refused.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np

from gossamer.runtime.operators.binary import combine, constant_binary
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BATCH, Context, Units
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.pools import reduced
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported

PRODUCTS = {"Conv", "MatMul", "Mul"}
MOVES = {"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
WIDE = {1, 6, 7, 11}  # types of a Cast that hold every product of 8 bits: 32 or 64 bits with a sign
SCALE, ZERO = "scale", "zero point"

# Scales below it are numbers that the processor may take for zero.
SMALLEST = float(np.finfo(np.float32).tiny)


def units_of(context: Context, call: Call) -> Units:
    """Return the units of an operator's output; raise where its inputs may not be used so."""
    operator, values = call.operator, context.values
    known = [values[i].units for i in call.inputs if i in values]
    if not any(known) or operator in ("ConvInteger", "MatMulInteger"):  # rewritten before that
        return {}
    total = Counter[tuple[str, str]]()
    for units in known:
        total.update(units)
    shifted = any(part == ZERO for units in known for _, part in units)
    if operator == "DequantizeLinear":
        zeros = {source: -count for source, count in known[-1].items()} if len(known) > 2 else {}
        codes = {source: count for source, count in known[0].items() if source[1] == ZERO}
        fits = codes == zeros and (bool(zeros) or len(known) < 3)
    elif operator == "Cast":
        fits = not shifted and call.get("to") in WIDE
    elif operator in MOVES:
        fits = not any(known[1:])
    elif operator == "ReduceSum":
        fits = not (shifted or any(known[1:]))
    elif operator in ("Add", "Sub"):
        fits, total = len(known) == 2 and known[0] == known[1] and not shifted, Counter(known[0])
    elif operator == "Div":
        fits, total = not (known[0] or shifted), Counter({k: -n for k, n in known[1].items()})
    elif operator == "Floor":
        fits = list(total.values()) == [1] and not shifted
    else:  # a bias would be added to what lacks a scale
        fits = operator in PRODUCTS and not shifted and len(known) == 2
    if not fits:
        raise Unsupported("it reads what DynamicQuantizeLinear computes, other than in a product")
    return {source: count for source, count in total.items() if count}


# Values that a node computes beside its output, named after it: the scale (one of each example),
# the same where the file has a one, the zero point, the input in steps, and these less the zero
# point. Those of the scale and of the zero point have as many dimensions as the rest.
STEP, UNIT, POINT, STEPS, NUMBERS = "step", "unit", "zero", "steps", "less its zero"


def value_of(source: str, what: str) -> str:
    """Return the name of a value that the node with this output computes beside it."""
    return f"{source} {what} of its range"


def floor(context: Context, call: Call, units: Units) -> None:
    """Round down a constant whose scale is missing in the file, not in the engine."""
    ((source, _),) = units
    shape = context.shape(call.value)
    if context.batch == BATCH or not context.is_constant(call.value) or not shape:
        raise Unsupported("it rounds by the scale of each example; fix the batch")
    step = context.emit(Reshape(), value_of(source, STEP), shape=[1] * (1 + len(shape)))
    codes = context.emit(Unary("floor"), combine(context, "div", call.value, step))
    context.emit(Reshape(), combine(context, "mul", codes, step), call.output, shape)


def _largest(context: Context, value: str) -> str:
    """Return the maximum of each example; of an image that of its channels first, in any layout."""
    if len(context.shape(value)) == 4:
        value = reduced(context, "max", value, [2, 3])
    return reduced(context, "max", value, range(1, len(context.shape(value))))


def _quantize(context: Context, call: Call) -> None:
    """Quantize each example or, where the batch is fixed, the whole batch, as ONNX defines it."""
    value, shape = call.value, context.shape(call.value)
    batch = BATCH if context.batch == BATCH else 1
    if shape[0] != batch or len(shape) < 2:
        value = context.emit(Reshape(), value, shape=(batch, math.prod(shape) // batch))
    over, under = (
        context.emit(Unary("clip", 0.0, math.inf), _largest(context, side))
        for side in (value, context.emit(Unary("neg"), value))
    )
    span = constant_binary(context, "div", combine(context, "add", over, under), 255)
    step = constant_binary(context, "max", span, SMALLEST, value_of(call.output, STEP))

    def in_steps(source: str, what: str = "") -> str:
        quotient = combine(context, "div", source, step)
        return context.emit(Unary("round"), quotient, what and value_of(call.output, what))

    clip = Unary("clip", 0.0, 255.0)
    steps = in_steps(value, STEPS)
    zero = context.emit(clip, in_steps(under), value_of(call.output, POINT))
    codes = context.emit(clip, combine(context, "add", steps, zero))
    numbers = combine(context, "mul", combine(context, "sub", codes, zero), step)
    context.emit(Reshape(), numbers, call.output, shape)
    for alias, source in ((NUMBERS, numbers), (UNIT, step)):
        name = context.emit(Reshape(), source, value_of(call.output, alias))
        context.values[name].units = {(call.output, SCALE): 1}
    context.values[call.output].units = {(call.output, SCALE): 1, (call.output, ZERO): 1}
    constants = [(1, np.float32, SCALE), (0, np.uint8, ZERO)]
    for result, (constant, dtype, part) in zip(call.outputs[1:], constants, strict=False):
        context.add_constant(result, np.array(constant, dtype))
        context.values[result].units = {(call.output, part): -1}


DYNAMIC_INT8: Operators = {"DynamicQuantizeLinear": Operator(_quantize)}
