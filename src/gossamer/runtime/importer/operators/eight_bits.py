"""Numbers in 8 bits: what QuantizeLinear and DequantizeLinear leave behind.

A value that is quantized and dequantized again becomes a ``round`` node; a weight that is
dequantized keeps its steps beside it, so that its layer can hold whole numbers in their place.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.importer.context import Attributes, Context, Convert, Unsupported

# Weights beyond it (there is one more negative number than positive ones) stay in 32 bits.
LARGEST = 127


def _grid(context: Context, inputs: list[str]) -> tuple[float, int, np.dtype[np.integer[Any]]]:
    """Step, zero point and type of codes of a value."""
    step = context.constant(inputs[1], "scale")
    zero = np.zeros((), np.uint8)
    if len(inputs) > 2 and inputs[2]:
        zero = context.constant(inputs[2], "zero point")
    if step.size != 1 or zero.size != 1:
        raise Unsupported("its values have several scales; quantize them with one for all")
    found = float(np.float32(step.reshape(())))
    if not (np.isfinite(found) and found > 0) or zero.dtype.kind not in "iu":
        raise Unsupported(f"its scale is {found}, its zero point {zero.dtype}")
    return found, int(zero.reshape(())), zero.dtype


def _quantize(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.is_constant(inputs[0]):
        raise Unsupported("it quantizes a constant; store the constant quantized")
    step, zero, dtype = _grid(context, inputs)
    limits = np.iinfo(dtype)
    settings = {"step": step, "low": int(limits.min) - zero, "high": int(limits.max) - zero}
    shape = context.shape(inputs[0])
    context.emit(Node("round", name, (inputs[0],), output, settings), shape)
    context.values[output].codes = step, zero


def _dequantize(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.is_constant(inputs[0]):
        _constant(context, inputs, output, a)
        return
    step, zero, _ = _grid(context, inputs)
    if context.values[inputs[0]].codes != (step, zero):
        raise Unsupported("its scale and zero point are not those of a QuantizeLinear before it")
    shape = context.shape(inputs[0])
    before = context.alone(inputs[0], "round")
    if before is not None:
        context.rename(before, output)
    else:
        context.emit(Node("reshape", name, (inputs[0],), output), shape)


def _constant(context: Context, inputs: list[str], output: str, a: Attributes) -> None:
    codes, step = context.array(inputs[0]), context.constant(inputs[1], "scale")
    zero = np.zeros((), codes.dtype)
    if len(inputs) > 2 and inputs[2]:
        zero = context.constant(inputs[2], "zero point")
    if codes.dtype.kind not in "iu" or step.dtype != np.float32 or "block_size" in a:
        raise Unsupported(f"it holds {codes.dtype} with scales of {step.dtype}, or in blocks")
    axis = int(a.get("axis", 1))
    if step.size > 1:
        axis = axis % codes.ndim
        if step.shape != (codes.shape[axis],):
            raise Unsupported(f"its scale has shape {step.shape} for {codes.shape}")
        spread = [-1 if i == axis else 1 for i in range(codes.ndim)]
        step, zero = step.reshape(spread), zero.reshape(spread) if zero.size > 1 else zero
    whole = codes.astype(np.int32) - zero.astype(np.int32)
    context.add_constant(output, whole.astype(np.float32) * step)
    fits = bool(whole.size and np.abs(whole).max() <= LARGEST and (step > 0).all())
    if fits and np.isfinite(step).all():
        context.values[output].step = (step.ravel(), axis if step.size > 1 else None)


EIGHT_BITS: dict[str, Convert] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
