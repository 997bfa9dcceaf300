"""Layers that multiply by a matrix."""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Node
from gossamer.runtime.importer.context import (
    Attributes,
    Context,
    Convert,
    Unsupported,
    floats,
    shown,
)


def linear(
    context: Context,
    name: str,
    value: str,
    output: str,
    weight: Array,
    bias: Array,
    step: dict[str, Array],
) -> None:
    """A linear layer over the last dimension; ``weight`` is [outputs, inputs]."""
    shape = context.shape(value)
    if len(shape) < 2 or shape[-1] != weight.shape[1]:
        raise Unsupported(f"its weight takes {weight.shape[1]} inputs, not {shown(shape)}")
    limits = {"low": -math.inf, "high": math.inf}
    constants = {"weight": np.ascontiguousarray(weight), "bias": bias, **step}
    context.emit(
        Node("linear", name, (value,), output, limits, constants), (*shape[:-1], len(weight))
    )


def _gemm(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if a.get("transA"):
        raise Unsupported("it transposes its input; export a plain linear layer")
    weight = floats(context.constant(inputs[1], "weight"))
    if a.get("alpha", 1.0) != 1.0:  # else a mapped weight stays mapped
        scaled = weight * np.float32(a["alpha"])
        if np.any(np.isinf(scaled) & np.isfinite(weight)):
            raise Unsupported(f"its alpha {a['alpha']:g} takes its weight beyond float32")
        weight = scaled
    if weight.ndim != 2:
        raise Unsupported(f"its weight has shape {weight.shape}")
    weight = weight if a.get("transB") else weight.T
    bias = np.zeros(len(weight), np.float32)
    if len(inputs) > 2 and inputs[2]:
        given = floats(context.constant(inputs[2], "bias")) * np.float32(a.get("beta", 1.0))
        if given.size not in (1, len(weight)):
            raise Unsupported(f"its bias has shape {given.shape} for {len(weight)} outputs")
        bias = bias + given.reshape(-1)
    if len(context.shape(inputs[0])) < 2:
        raise Unsupported(f"its input has shape {shown(context.shape(inputs[0]))}")
    whole = a.get("alpha", 1.0) == 1.0
    step = context.step(inputs[1], 0 if a.get("transB") else 1, len(weight)) if whole else {}
    linear(context, name, inputs[0], output, weight, bias, step)


def _matmul(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if not context.is_constant(inputs[1]):
        left, right = (context.shape(i) for i in inputs)
        matrices = left[:-2] == right[:-2] and len(left) > 2 and left[-1] == right[-2]
        if context.is_constant(inputs[0]) or not matrices:
            raise Unsupported(f"it multiplies {shown(left)} by {shown(right)}")
        context.emit(Node("matmul", name, (inputs[0], inputs[1]), output), (*left[:-1], right[-1]))
        return
    weight = floats(context.constant(inputs[1], "right side"))
    if weight.ndim != 2:
        raise Unsupported(f"its weight has shape {weight.shape}")
    bias = np.zeros(weight.shape[1], np.float32)
    step = context.step(inputs[1], 1, len(bias))
    linear(context, name, inputs[0], output, weight.T, bias, step)


LINEAR: dict[str, Convert] = {"Gemm": _gemm, "MatMul": _matmul}
