"""MatMulInteger of what DynamicQuantizeLinear made, so that a kernel may add up whole numbers.

Of the codes c with the zero point z, and of the weights w with v:

    (c - z) (w - v) = (c - 128) w - (z - 128) sum(w) - v sum(c - z)

The first product is of bytes with a sign; the rest are sums over rows and columns. Weights without
a sign are moved by 128, as v is.
"""

from __future__ import annotations

import numpy as np

from gossamer.runtime.importer.calls import Calls
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BATCH, Context
from gossamer.runtime.operators.dynamic_int8 import (
    NUMBERS,
    POINT,
    SCALE,
    STEPS,
    UNIT,
    ZERO,
    value_of,
)

MIDDLE = 128


def dynamic_matmul(context: Context, call: Call) -> list[Call] | None:
    """Return the calls that replace a call; None if its inputs are not such codes and weights."""
    value, weight, point, own = [*call.inputs, "", ""][:4]
    made = (value, SCALE), (value, ZERO)  # by the node itself, its result not moved
    if context.values[value].units != dict.fromkeys(made, 1) or not point:
        return None
    if context.values[point].units != {made[1]: -1} or not context.is_constant(weight):
        return None
    array, shape = context.array(weight), context.shape(value)
    moved = np.float32(0) if not own else context.constant(own, "zero point").astype(np.float32)
    flat = context.shape(value_of(value, STEPS)) != shape  # one range for all first entries
    if (
        array.ndim != 2
        or array.dtype not in (np.int8, np.uint8)
        or (flat and context.batch == BATCH)
    ):
        return None
    codes = array.astype(np.int16)
    if array.dtype == np.uint8:
        codes, moved = codes - np.int16(MIDDLE), moved - np.float32(MIDDLE)
    calls, one = Calls(context, call), np.float32(1)
    numbers, steps, step, zero = (value_of(value, x) for x in (NUMBERS, STEPS, UNIT, POINT))
    zero = calls.add("Sub", zero, np.float32(MIDDLE))
    inputs = calls.add("QuantizeLinear", calls.add("Add", steps, zero), one, np.int8(0))
    inputs = calls.add("DequantizeLinear", inputs, one, np.int8(0))
    rows = [*shape[:-1], codes.shape[1]]
    if flat:
        ones = np.ones(1 + len(shape), np.int64)
        inputs = calls.add("Reshape", inputs, np.array(shape))
        numbers = calls.add("Reshape", numbers, np.array([1, *shape]))
        step, zero = (calls.add("Reshape", x, ones) for x in (step, zero))
    factor = calls.add("DequantizeLinear", codes.astype(np.int8), one)
    product = calls.add("MatMul", inputs, factor)
    if flat:
        product = calls.add("Reshape", product, np.array([1, *rows]))
    columns = codes.sum(0, dtype=np.int32).astype(np.float32)
    result = calls.add("Mul", calls.add("Sub", product, calls.add("Mul", zero, columns)), step)
    if np.any(moved):
        total = calls.add("ReduceSum", numbers, np.array([-1]))
        result = calls.add("Sub", result, calls.add("Mul", total, moved))
    if flat:
        result = calls.add("Reshape", result, np.array(rows))
    calls.result("Cast", result, call.output, to=6)
    return calls.all
