"""QuantizeLinear and DequantizeLinear.

A value that is quantized and dequantized again becomes a ``Round`` node. A dequantized weight
keeps its steps, so that its layer can store it in 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.runtime.c.int8 import rounding_steps
from gossamer.runtime.c.tables import number
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.constants import Quantized, Stored
from gossamer.runtime.graph import AnyNode, Array, Single
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.binary import constant_binary
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.folding import DTYPES
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported

FLOATS = (np.float32, np.float16)  # types of scales

LARGEST = 127  # weights beyond what a byte holds stay in 32 bits

# Types of codes; of the first are those of a file that names none.
CODES: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int8, np.uint16, np.int16)


@dataclass(frozen=True)
class Round(Single):
    """Rounding to multiples of ``step`` from ``low`` to ``high`` steps, ties to even."""

    op = "round"

    step: float
    low: int
    high: int

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        grid = np.array([self.step, self.low, self.high], np.float32)
        lowering.each(node, {}, [grid], keeps_zero=True)

    def write(self, writer: Writer, node: AnyNode) -> None:
        steps, kind = rounding_steps(self), writer.type(node.output)
        if kind == "float":
            steps.append(f"v *= {number(self.step)};")
        step = "\n    ".join(steps)
        body = f"""
for (i = 0; i < {writer.size(node.output)}; ++i) {{
    float v = x[i];
    {step}
    y[i] = {"v" if kind == "float" else f"({kind})v"};
}}"""
        writer.function(node, "i", body)


def _zero_point(context: Context, call: Call, dtype: np.dtype[Any]) -> Array:
    """Return the zero point of a call, a zero of ``dtype`` if it has none."""
    named = call.optional(2)
    return context.constant(named, "zero point") if named else np.zeros((), dtype)


def _grid(
    context: Context, call: Call, kind: type[np.integer[Any]] = np.uint8
) -> tuple[float, int, np.dtype[np.integer[Any]]]:
    """Step, zero point and type of codes of a value; ``kind`` where it has no zero point."""
    step = context.constant(call.inputs[1], "scale")
    zero = _zero_point(context, call, np.dtype(kind))
    if step.size != 1 or zero.size != 1:
        raise Unsupported("its values have several scales; quantize them with one for all")
    size = float(np.float32(step.reshape(())))
    if not (np.isfinite(size) and size > 0) or zero.dtype.kind not in "iu":
        raise Unsupported(f"its scale {size} must be finite and above 0, its zero point integers")
    return size, int(zero.reshape(())), zero.dtype


def _named(a: Attributes) -> type[np.integer[Any]]:
    """Return the type of codes that have no zero point."""
    number = a.get("output_dtype", 0)  # 0 says nothing
    kind = DTYPES.get(number) if number else CODES[0]
    if kind not in CODES:
        raise Unsupported("its codes are no integers of 8 or 16 bits; quantize to one of these")
    return kind


def _quantize(context: Context, call: Call) -> None:
    step, zero, dtype = _grid(context, call, _named(call.attributes))
    limits = np.iinfo(dtype)
    operation = Round(step, int(limits.min) - zero, int(limits.max) - zero)
    context.emit(operation, call.value, call.output)
    context.values[call.output].codes = step, zero


def _codes(x: list[Array], a: Attributes) -> Array:
    """Quantize a constant, with one scale or those along an axis."""
    zero = x[2] if len(x) > 2 else np.zeros((), _named(a))
    step, point = (_spread(part, int(a.get("axis", 1)), x[0]) for part in (x[1], zero))
    limits = np.iinfo(zero.dtype)
    codes = np.rint(x[0] / step) + point.astype(np.float32)
    return np.asarray(np.clip(codes, limits.min, limits.max), zero.dtype)


def _spread(part: Array, axis: int, within: Array, block: int = 0) -> Array:
    """Return scales or zero points, of all numbers, along an axis or in blocks, for ``within``."""
    if part.size == 1:
        return part.reshape([1] * within.ndim)
    axis %= within.ndim
    if block > 0 and part.ndim == within.ndim:
        part = np.repeat(part, min(block, within.shape[axis]), axis)
        part = part.take(range(min(within.shape[axis], part.shape[axis])), axis)
        if part.shape == within.shape:
            return part
    if part.shape != (within.shape[axis],):
        raise Unsupported(f"its scale has shape {part.shape} for {within.shape}")
    return part.reshape([-1 if i == axis else 1 for i in range(within.ndim)])


def _dequantize(context: Context, call: Call) -> None:
    value, output = call.value, call.output
    if context.is_constant(value):
        dequantize_constant(context, call)
        return
    if context.values[value].units:  # see ``operators.dynamic_int8``, the zero point is off
        scale = context.constant(call.inputs[1], "scale")
        if scale.size != 1:
            raise Unsupported("its values have several scales; quantize them with one for all")
        if scale.item() != 1:
            constant_binary(context, "mul", value, scale.item(), output, "f")
            return
    else:
        step, zero, _ = _grid(context, call)
        if context.values[value].codes != (step, zero):  # any integers
            numbers = as_numbers(context, value)
            whole = constant_binary(context, "sub", numbers, zero, "", "f")
            constant_binary(context, "mul", whole, step, output, "f")
            return
    context.emit(Reshape(), value, output)


def as_numbers(context: Context, value: str) -> str:
    """Return an integer value: the codes of a quantized one, computed from its rounded floats."""
    known = context.values[value]
    if known.codes is None:
        if known.kind != "i":
            raise Unsupported("its input is not integer; it dequantizes integers only")
        return value
    (step, zero), result = known.codes, f"{value} as numbers"
    if result not in context.values:
        steps = context.emit(Unary("round"), constant_binary(context, "div", value, step))
        constant_binary(context, "add", steps, zero, result, "i")
    return result


def dequantize_constant(context: Context, call: Call) -> None:
    """Add the floats of constant codes; a layer whose weight they are may store the codes."""
    codes, step = context.array(call.value), context.constant(call.inputs[1], "scale")
    zero = _zero_point(context, call, codes.dtype)
    if codes.dtype.kind not in "iu" or step.dtype not in FLOATS:
        raise Unsupported(f"it holds {codes.dtype} with scales of {step.dtype}")
    axis, block = int(call.get("axis", 1)), int(call.get("block_size", 0))
    step, zero = (_spread(part, axis, codes, block) for part in (step, zero))
    step = step.astype(np.float32)
    context.add_constant(call.output, _floats_of(codes, step, zero))


def _floats_of(codes: Array, step: Array, zero: Array) -> Stored:
    """Return codes as the floats that they stand for; those of a byte stay in 8 bits."""
    if codes.dtype != np.int8 or np.any(zero):
        wide = np.int16 if codes.dtype.itemsize == 1 else np.int32
        codes = codes.astype(wide) - zero.astype(wide)
    in_bytes = codes.dtype == np.int8 or (
        codes.size and codes.min() >= -LARGEST - 1 and codes.max() <= LARGEST
    )
    if in_bytes and codes.size and (step > 0).all() and np.isfinite(step).all():
        return Quantized(codes.astype(np.int8, copy=False), step)
    return codes.astype(np.float32) * step


INT8: Operators = {
    "QuantizeLinear": Operator(_quantize, _codes, shared="pointwise"),
    "DequantizeLinear": Operator(_dequantize),
}
