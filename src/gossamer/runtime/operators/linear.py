"""Matrix products: Gemm, MatMul and Einsum."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.c import layers
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.constants import Quantized
from gossamer.runtime.graph import AnyNode, Array, Candidate, Single
from gossamer.runtime.lowering import linear as kernels
from gossamer.runtime.lowering.int8 import in_8_bits
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.batch_axis import multiply
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context, floats, shown
from gossamer.runtime.operators.layer import Layer
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported


@dataclass(frozen=True, kw_only=True)
class Linear(Layer):
    """A constant matrix [outputs, inputs] times the last dimension."""

    op = "linear"

    def candidates(self, lowering: Lowering, node: AnyNode) -> Iterable[Candidate]:
        eight = "step" in node.constants
        linear = kernels.linear
        return in_8_bits(lowering, node, linear) if eight else linear(lowering, node)

    def write(self, writer: Writer, node: AnyNode) -> None:
        layers.linear(writer, node)


@dataclass(frozen=True)
class Matmul(Single):
    """Matrix products of two values."""

    op = "matmul"

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        left, right = (lowering.values[name] for name in node.inputs)
        *_, rows, depth = left.shape
        columns = right.shape[-1]
        count = left.item // (rows * depth)
        macs = float(left.items * left.item * columns)
        shape = {"count": count, "rows": rows, "depth": depth, "columns": columns}
        lowering.one(node, shape, macs=macs, dense_macs=macs)

    def write(self, writer: Writer, node: AnyNode) -> None:
        layers.matmul(writer, node)


def linear(
    context: Context,
    value: str,
    output: str,
    weight: Array | Quantized,
    bias: Array,
) -> str:
    """Emit a linear layer over the last dimension; ``weight`` is [outputs, inputs]."""
    shape = context.shape(value)
    if len(shape) < 2 or shape[-1] != weight.shape[1]:
        raise Unsupported(f"its weight takes {weight.shape[1]} inputs, not {shown(shape)}")
    constants = {"weight": weight, "bias": bias}
    return context.emit(Linear(), value, output, (*shape[:-1], len(weight)), constants=constants)


def _gemm(context: Context, call: Call) -> None:
    if call.get("transA"):
        raise Unsupported("it transposes its input; export a plain linear layer")
    alpha, outputs = call.get("alpha", 1.0), 0 if call.get("transB") else 1
    weight = context.weight(call.inputs[1], "weight", outputs)
    if alpha != 1.0:  # else a mapped weight stays mapped
        weight = floats(context.array(call.inputs[1]))
        scaled = weight * np.float32(alpha)
        if np.any(np.isinf(scaled) & np.isfinite(weight)):
            raise Unsupported(f"its alpha {alpha:g} takes its weight beyond float32")
        weight = scaled
    if weight.ndim != 2:
        raise Unsupported(f"its weight has shape {weight.shape}")
    weight = context.turned(weight) if outputs else weight
    bias = np.zeros(len(weight), np.float32)
    if named := call.optional(2):
        addend = floats(context.constant(named, "bias")) * np.float32(call.get("beta", 1.0))
        if addend.size not in (1, len(weight)):
            raise Unsupported(f"its bias has shape {addend.shape} for {len(weight)} outputs")
        bias = bias + addend.reshape(-1)
    if len(context.shape(call.value)) < 2:
        raise Unsupported(f"its input has shape {shown(context.shape(call.value))}")
    linear(context, call.value, call.output, weight, bias)


def _matmul(context: Context, call: Call) -> None:
    value, other = call.inputs
    if not context.is_constant(other):
        left, right = (context.shape(i) for i in call.inputs)
        matrices = left[:-2] == right[:-2] and len(left) > 2 and left[-1] == right[-2]
        if context.is_constant(value) or not matrices:
            raise Unsupported(f"it multiplies {shown(left)} by {shown(right)}")
        context.emit(Matmul(), (value, other), call.output, (*left[:-1], right[-1]))
        return
    weight = context.weight(other, "right side", -1)
    if weight.ndim == 1:  # a vector: the output has no last axis
        column = floats(context.array(other)).reshape(1, -1)
        made = linear(context, value, "", column, np.zeros(1, np.float32))
        context.emit(Reshape(), made, call.output, context.shape(value)[:-1])
        return
    if weight.ndim != 2:
        raise Unsupported(f"its right side is a constant of shape {weight.shape}, not a matrix")
    bias = np.zeros(weight.shape[1], np.float32)
    linear(context, value, call.output, context.turned(weight), bias)


def _products(x: list[Array], a: Attributes) -> int:
    stacked = np.broadcast_shapes(x[0].shape[:-2], x[1].shape[:-2])
    return math.prod((*stacked, *x[0].shape[-2:-1], *x[1].shape[-1:]))


def _gemm_constant(x: list[Array], a: Attributes) -> Array:
    left = x[0].T if a.get("transA") else x[0]
    right = x[1].T if a.get("transB") else x[1]
    bias = float(a.get("beta", 1.0)) * x[2] if len(x) > 2 else 0.0
    return np.asarray(float(a.get("alpha", 1.0)) * (left @ right) + bias, x[0].dtype)


def _gemm_size(x: list[Array], a: Attributes) -> int:
    rows = x[0].shape[1 if a.get("transA") else 0]
    return int(rows * x[1].shape[0 if a.get("transB") else 1])


def _sums(x: list[Array], a: Attributes) -> int:
    """Return the number of multiplications of an Einsum: the product of its letters' sizes."""
    terms = str(a["equation"]).replace(" ", "").partition("->")[0].replace("...", "").split(",")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, x, strict=True):
        sizes.update(zip(term, value.shape[len(value.shape) - len(term) :], strict=True))
    rest = max(value.size for value in x) if "..." in str(a["equation"]) else 1
    return rest * math.prod(sizes.values())


def _einsum(x: list[Array], a: Attributes) -> Array:
    return np.asarray(np.einsum(str(a["equation"]).replace(" ", ""), *x), x[0].dtype)


LINEAR: Operators = {
    "Einsum": Operator(fold=_einsum, size=_sums, shared="joins"),
    "Gemm": Operator(_gemm, _gemm_constant, _gemm_size, turned=multiply),
    "MatMul": Operator(_matmul, lambda x, a: np.matmul(x[0], x[1]), _products, turned=multiply),
}
