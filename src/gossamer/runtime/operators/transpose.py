"""Transpose: permutation of the dimensions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gossamer.runtime.c.loops import moved
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Shape, Single, strides
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.batch_axis import NOWHERE, in_front, settle
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BatchAxis, Context, shown
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.strided import check_loops
from gossamer.runtime.operators.unsupported import Unsupported


@dataclass(frozen=True)
class Transpose(Single):
    """The dimensions in the order ``perm``, the batch first."""

    op = "transpose"

    perm: tuple[int, ...]

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value, result = lowering.values[node.inputs[0]], lowering.value(node.output)
        source = lowering.form(value, "dense")
        target = lowering.new(result, "dense", result.item)
        lowering.copy(source, target, value.items, *self._loops(value.shape))

    def write(self, writer: Writer, node: AnyNode) -> None:
        moved(writer, node, *self._loops(writer.shape(node.inputs[0])))

    def _loops(self, shape: Shape) -> tuple[list[int], list[int], list[int]]:
        """Return the output's sizes within an item, and their strides in the input and output."""
        steps, axes = strides(shape[1:]), [p - 1 for p in self.perm[1:]]
        sizes = [shape[1:][axis] for axis in axes]
        return sizes, [steps[axis] for axis in axes], strides(tuple(sizes))


def place(context: Context, source: str, perm: list[int], output: str = "") -> str:
    """Permute the dimensions of a value, whose batch stays first; return the result's name."""
    shape = context.shape(source)
    turned = tuple(shape[p] for p in perm)
    if perm == list(range(len(shape))):
        return context.emit(Reshape(), source, output, turned)
    steps = [strides(shape)[p] for p in perm[1:]]
    check_loops(turned[1:], steps, strides(turned[1:]))
    return context.emit(Transpose(tuple(perm)), source, output, turned)


def permutation_of(context: Context, call: Call) -> list[int]:
    """Return the permutation of Transpose; the reverse order is ONNX's default."""
    shape = context.shape(call.value)
    perm = [int(p) for p in call.get("perm", range(len(shape))[::-1])]
    if sorted(perm) != list(range(len(shape))):
        raise Unsupported(f"it permutes {shown(shape)} by {perm}")
    return perm


def _transpose(context: Context, call: Call) -> None:
    place(context, call.value, permutation_of(context, call), call.output)


def _transpose_turned(context: Context, convert: Convert, call: Call) -> None:
    batched, sizes = in_front(context, call.value, call.output)
    perm = permutation_of(context, call)
    batch, source = context.shape(batched.source)[0], batched.source
    wide = [p for p in range(len(sizes)) if sizes[p] != 1]
    order = [wide.index(p) + 1 for p in perm if p in wide]
    if order != sorted(order):
        narrow = context.emit(Reshape(), source, shape=(batch, *(sizes[p] for p in wide)))
        source = place(context, narrow, [0, *order])
    front = context.emit(Reshape(), source, shape=(batch, *(sizes[p] for p in perm)))
    axis = batched.axis if batched.axis == NOWHERE else perm.index(batched.axis)
    settle(context, BatchAxis(front, axis, batched.after), call.output)


TRANSPOSE: Operators = {
    "Transpose": Operator(
        _transpose,
        lambda x, a: np.transpose(x[0], a.get("perm")),
        shared="view",
        turned=_transpose_turned,
    ),
}
