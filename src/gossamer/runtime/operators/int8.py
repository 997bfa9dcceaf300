"""Numbers in 8 bits: what QuantizeLinear and DequantizeLinear leave behind.

A value that is quantized and dequantized again becomes a ``Round`` node; a weight that is
dequantized has its steps beside it, so that its layer can store whole numbers in their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.runtime.c.int8 import rounding_steps
from gossamer.runtime.c.tables import number
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Node, Single
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.binary import constant_binary
from gossamer.runtime.operators.context import Attributes, Context, Unsupported
from gossamer.runtime.operators.elementwise import Unary
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.program import LIST_HEADER

FLOATS = (np.float32, np.float16)  # types of scales

# Weights beyond it (there is one more negative number than positive ones) stay in 32 bits.
LARGEST = 127


@dataclass(frozen=True)
class Round(Single):
    """Rounding to multiples of ``step``, from ``low`` to ``high`` times, ties to even."""

    op = "round"

    step: float
    low: int
    high: int

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        """Lower to one pass; over a list's values only."""
        value = lowering.values[node.inputs[0]]
        result = lowering.value(node.output)
        result.channels, result.pixels = value.channels, value.pixels
        result.density = min(result.density, value.density)
        listed = [form for form in ("list", "list last") if form in value.forms]
        form = listed[0] if listed else lowering.layout(value)
        source = lowering.form(value, form)
        floats = source.floats // value.lead
        capacity = (floats - LIST_HEADER) // 2 if listed else 0
        grid = np.array([self.step, self.low, self.high], np.float32)
        lowering.add(
            node.name,
            lowering.kernel("round"),
            (source,),
            lowering.new(result, form, floats),
            {"size": value.item, "capacity": capacity},
            data=[grid],
            lead=value.lead,
        )

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


def _grid(context: Context, inputs: list[str]) -> tuple[float, int, np.dtype[np.integer[Any]]]:
    """Step, zero point and type of codes of a value."""
    step = context.constant(inputs[1], "scale")
    zero = np.zeros((), np.uint8)
    if len(inputs) > 2 and inputs[2]:
        zero = context.constant(inputs[2], "zero point")
    if step.size != 1 or zero.size != 1:
        raise Unsupported("its values have several scales; quantize them with one for all")
    size = float(np.float32(step.reshape(())))
    if not (np.isfinite(size) and size > 0) or zero.dtype.kind not in "iu":
        raise Unsupported(f"its scale is {size}, its zero point {zero.dtype}")
    return size, int(zero.reshape(())), zero.dtype


def _quantize(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.is_constant(inputs[0]):
        raise Unsupported("it quantizes a constant; store the constant quantized")
    step, zero, dtype = _grid(context, inputs)
    limits = np.iinfo(dtype)
    operation = Round(step, int(limits.min) - zero, int(limits.max) - zero)
    shape = context.shape(inputs[0])
    context.emit(Node(operation, name, (inputs[0],), output), shape)
    context.values[output].codes = step, zero


def _dequantize(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.is_constant(inputs[0]):
        _constant(context, inputs, output, a)
        return
    if context.values[inputs[0]].units:
        context.emit(Node(Reshape(), name, (inputs[0],), output), context.shape(inputs[0]))
        return
    step, zero, _ = _grid(context, inputs)
    if context.values[inputs[0]].codes != (step, zero):  # any integers
        numbers = as_numbers(context, name, inputs[0])
        constant_binary(context, "sub", name, numbers, f"{output} whole", np.array(zero), "f")
        constant_binary(context, "mul", name, f"{output} whole", output, np.array(step), "f")
        return
    context.emit(Node(Reshape(), name, (inputs[0],), output), context.shape(inputs[0]))


def as_numbers(context: Context, name: str, value: str) -> str:
    """A value of integers: the codes of a quantized one, computed from its rounded floats."""
    known = context.values[value]
    if known.codes is None:
        if known.kind != "i":
            raise Unsupported("it dequantizes what is not integers")
        return value
    (step, zero), result = known.codes, f"{value} as numbers"
    if result not in context.values:
        parts, whole = f"{value} in steps", f"{value} in whole steps"
        constant_binary(context, "div", name, value, parts, np.array(step), "f")
        context.emit(Node(Unary("round"), name, (parts,), whole), context.shape(parts))
        constant_binary(context, "add", name, whole, result, np.array(zero), "i")
    return result


def _constant(context: Context, inputs: list[str], output: str, a: Attributes) -> None:
    codes, step = context.array(inputs[0]), context.constant(inputs[1], "scale")
    zero = np.zeros((), codes.dtype)
    if len(inputs) > 2 and inputs[2]:
        zero = context.constant(inputs[2], "zero point")
    if codes.dtype.kind not in "iu" or step.dtype not in FLOATS or "block_size" in a:
        raise Unsupported(f"it holds {codes.dtype} with scales of {step.dtype}, or in blocks")
    axis = int(a.get("axis", 1))
    if step.size > 1:
        axis = axis % codes.ndim
        if step.shape != (codes.shape[axis],):
            raise Unsupported(f"its scale has shape {step.shape} for {codes.shape}")
        spread = [-1 if i == axis else 1 for i in range(codes.ndim)]
        step, zero = step.reshape(spread), zero.reshape(spread) if zero.size > 1 else zero
    step, whole = step.astype(np.float32), codes.astype(np.int32) - zero.astype(np.int32)
    context.add_constant(output, whole.astype(np.float32) * step)
    fits = bool(whole.size and np.abs(whole).max() <= LARGEST and (step > 0).all())
    if fits and np.isfinite(step).all():
        context.values[output].step = (step.ravel(), axis if step.size > 1 else None)


INT8: Operators = {
    "QuantizeLinear": Operator(_quantize),
    "DequantizeLinear": Operator(_dequantize),
}
