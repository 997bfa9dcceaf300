"""Gather and Scatter: numbers at any positions of an axis, and embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Shape, Single, strides
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.axis import along_axes, axis_of
from gossamer.runtime.operators.batch_axis import along, convert_in_front, in_front
from gossamer.runtime.operators.binary import combine, constant_binary
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.concat import Concat
from gossamer.runtime.operators.context import Context, floats, numbers, shown
from gossamer.runtime.operators.linear import Matmul
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.pools import reduced
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.shapes import drop
from gossamer.runtime.operators.slicing import part, spaced
from gossamer.runtime.operators.unsupported import Unsupported

MOST_RUNS = 16  # of evenly spaced numbers, each copied by one kernel call


@dataclass(frozen=True)
class Embed(Single):
    """Rows of the constant ``table`` by integer indices."""

    op = "embed"

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        table, count = node.constants["table"], lowering.values[node.inputs[0]].item
        shape = {"count": count, "rows": table.shape[0], "width": table.shape[1]}
        lowering.one(node, shape, [table])

    def write(self, writer: Writer, node: AnyNode) -> None:
        table = node.constants["table"]
        rows, width = table.shape
        name = writer.tables.floats(f"{writer.called(node)}_table", table)
        body = f"""
for (i = 0; i < {writer.size(node.inputs[0])}; ++i) {{
    row = (int32_t)x[i];
    if (row < 0) row += {rows};
    for (j = 0; j < {width}; ++j) {{
        *y++ = row >= 0 && row < {rows} ? {name}[row * {width} + j] : NAN;
    }}
}}"""
        writer.function(node, "i, j, row", body)


def take(context: Context, value: str, axis: int, index: Array, output: str = "") -> str:
    """Take the numbers at ``index`` along an axis; return the result's name.

    A few runs of evenly spaced numbers are copied; else a linear layer has a one in each row.
    """
    runs = _runs(index.tolist())
    shape = context.shape(value)
    if len(runs) > MOST_RUNS:

        def matrix() -> Array:
            ones = np.zeros((len(index), shape[axis]))
            ones[np.arange(len(index)), index] = 1.0
            return ones

        return along_axes(context, value, output, [(axis, len(index), matrix)])
    if len(runs) == 1:
        return spaced(context, value, axis, *runs[0], output)
    pieces = tuple(spaced(context, value, axis, *run) for run in runs)
    joined = (*shape[:axis], len(index), *shape[axis + 1 :])
    return context.emit(Concat(axis), pieces, output, joined)


def _runs(index: list[int]) -> list[tuple[int, int, int]]:
    """Return indices as runs of evenly spaced ones: (first, step, count) of each."""
    runs: list[tuple[int, int, int]] = []
    for number in index:
        first, step, count = runs[-1] if runs else (number, 0, 0)
        if count == 1:
            runs[-1] = (first, number - first, 2)
        elif count and number == first + step * count:
            runs[-1] = (first, step, count + 1)
        else:
            runs.append((number, 0, 1))
    return runs


def _embed(context: Context, table: Array, value: str, output: str) -> None:
    """Look up entries of a constant table by an integer value."""
    if not table.ndim or not table.size:
        raise Unsupported(f"it takes entries of a constant of shape {table.shape}")
    rows, kind = table.reshape(len(table), -1), table.dtype.kind.replace("u", "i")
    constants = {"table": floats(rows) if kind == "f" else numbers(rows)}
    shape, each = context.shape(value), table.shape[1:]
    if len(each) == 1:
        context.emit(Embed(), value, output, (*shape, *each), kind, constants)
        return
    made = context.emit(Embed(), value, "", (*shape, rows.shape[1]), kind, constants)
    context.emit(Reshape(), made, output, (*shape, *each))


def _gather_elements(context: Context, call: Call) -> None:
    """Convert GatherElements of a constant row to an embedding of single numbers."""
    data, index = call.inputs
    row, shape = context.constant(data, "data"), context.shape(index)
    if row.ndim != len(shape) or row.size != row.shape[-1]:
        raise Unsupported(f"it takes elements of a constant of shape {row.shape}; one row only")
    if axis_of(context, index, int(call.get("axis", 0))) != row.ndim - 1:
        raise Unsupported("it takes elements along another axis than the last")
    _embed(context, row.reshape(-1), index, call.output)


def _gather(context: Context, call: Call) -> None:
    value, axis = call.value, int(call.get("axis", 0))
    if context.is_constant(value) and axis == 0:
        _embed(context, context.array(value), call.inputs[1], call.output)
        return
    index = context.constant(call.inputs[1], "index")
    axis = axis_of(context, value, axis)
    size = context.shape(value)[axis]
    picked = np.ravel(index)
    if not picked.size or picked.min() < -size or picked.max() >= size:
        raise Unsupported(f"it gathers nothing, or beyond the {size} of its axis")
    picked = picked % size
    steps = set(np.diff(picked).tolist())
    if index.ndim > 1 or len(steps) > 1 or min(steps, default=1) < 1:
        _scattered(context, value, axis, index % size, call.output)
        return
    first, step = int(picked[0]), steps.pop() if steps else 1
    span = range(first, first + step * len(picked), step)
    piece = part(context, value, axis, span, call.output if index.ndim else "")
    if not index.ndim:
        drop(context, piece, {axis}, call.output)


def _scattered(context: Context, value: str, axis: int, index: Array, output: str) -> None:
    """Convert Gather with indices that are not evenly spaced."""
    shape = context.shape(value)
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    taken = take(context, value, axis, index.ravel(), output if index.ndim == 1 else "")
    if index.ndim > 1:
        whole = (*shape[:axis], *index.shape, *shape[axis + 1 :])
        context.emit(Reshape(), taken, output, whole)


def _gather_turned(context: Context, convert: Convert, call: Call) -> None:
    if not context.is_constant(call.value):
        along(0)(context, convert, call)
        return
    batched, _ = in_front(context, call.inputs[1], call.output)  # an embedding
    convert_in_front(context, convert, call, [call.value, batched.source], batched)


def _elements_constant(x: list[Array], a: Attributes) -> Array:
    axis = a.get("axis", 0) % x[0].ndim
    near = [slice(None if i == axis else size) for i, size in enumerate(x[1].shape)]
    return np.take_along_axis(x[0][tuple(near)], x[1].astype(np.int64), axis)


def _gather_nd_own(context: Context, call: Call) -> None:
    """Convert GatherND of each example's own numbers: ``batch_dims`` is 1, or the batch is one."""
    (value, index), dims = call.inputs, int(call.get("batch_dims", 0))
    shape, places = context.shape(value), context.shape(index)
    depth, constant = places[-1], context.is_constant(index)
    first = 0 if context.batch == 1 and dims == 0 and constant else 1
    sizes, rest = shape[first : first + depth], shape[first + depth :]
    if context.is_constant(value) or dims != first or len(sizes) != depth or not depth:
        raise Unsupported("it gathers from other examples; export with batch_dims = 1")
    count, result = math.prod(sizes), (*places[:-1], *rest)
    if constant:
        positions = context.array(index)
        if first and len(positions) != 1:
            raise Unsupported("its index differs between examples; pass it as an input")
        if np.any(positions < [-n for n in sizes]) or np.any(positions >= sizes):
            raise Unsupported(f"it gathers beyond {shown(shape)}")
        picked = np.ravel_multi_index(tuple(np.moveaxis(positions % sizes, -1, 0)), sizes)
        rows = context.emit(Reshape(), value, shape=(shape[0] if first else 1, count, *rest))
        context.emit(Reshape(), take(context, rows, 1, picked.ravel()), call.output, result)
        return
    context.spend(count)
    own = context.emit(Reshape(), index, shape=(shape[0], math.prod(places[1:-1]), depth))
    behind = constant_binary(context, "less", own, 0.0)
    own = combine(context, "add", own, constant_binary(context, "mul", behind, np.array(sizes)))
    steps = constant_binary(context, "mul", own, np.array(strides(sizes)))
    take_own(
        context, value, reduced(context, "sum", steps, [2]), (count, rest), call.output, result
    )


def take_own(
    context: Context,
    value: str,
    places: str,
    of: tuple[int, Shape],
    output: str,
    result: Shape,
    base: Array | int = 0,
) -> None:
    """Take rows by an example's own integers, as a product with a one-hot matrix.

    ``of`` is the number of rows and their shape; ``places`` are [batch, taken, 1], less ``base``.
    """
    (count, rest), shape = of, context.shape(places)
    chosen = constant_binary(context, "equal", places, np.arange(count) - base)
    flat = context.emit(Reshape(), value, shape=(shape[0], count, math.prod(rest)))
    made, kind = (*shape[:2], math.prod(rest)), context.kind(value)
    taken = context.emit(Matmul(), (chosen, flat), "", made, kind)
    context.emit(Reshape(), taken, output, result)


def _gather_nd(x: list[Array], a: Attributes) -> Array:
    if dims := int(a.get("batch_dims", 0)):
        each = zip(x[0], x[1], strict=True)
        return np.stack([_gather_nd(list(pair), {"batch_dims": dims - 1}) for pair in each])
    return np.asarray(x[0][tuple(np.moveaxis(x[1], -1, 0))])


def _scatter_nd(x: list[Array], a: Attributes) -> Array:
    if a.get("reduction", "none") != "none":
        raise Unsupported(f"it scatters by {a['reduction']!r}; only replacing can run")
    result = x[0].copy()
    result[tuple(np.moveaxis(x[1], -1, 0))] = x[2]
    return result


def _scatter_elements(x: list[Array], a: Attributes) -> Array:
    if a.get("reduction", "none") != "none":
        raise Unsupported(f"it scatters by {a['reduction']!r}; only replacing can run")
    axis = a.get("axis", 0) % x[0].ndim
    index = x[1].astype(np.int64)
    places = [np.arange(size).reshape([-1 if i == j else 1 for j in range(x[1].ndim)])
              for i, size in enumerate(x[1].shape)]  # fmt: skip
    places[axis] = index
    result = x[0].copy()
    result[tuple(places)] = x[2]
    return result


def _gathered_nd(x: list[Array], a: Attributes) -> int:
    behind = int(a.get("batch_dims", 0)) + x[1].shape[-1]
    return math.prod((*x[1].shape[:-1], *x[0].shape[behind:]))


GATHER: Operators = {
    "Gather": Operator(
        _gather,
        lambda x, a: np.take(x[0], x[1].astype(np.int64), axis=a.get("axis", 0)),
        lambda x, a: int(x[1].size * (x[0].size // max(1, x[0].shape[a.get("axis", 0)]))),
        turned=_gather_turned,
    ),
    "GatherElements": Operator(_gather_elements, _elements_constant, lambda x, a: x[1].size),
    "GatherND": Operator(_gather_nd_own, _gather_nd, _gathered_nd, "joins"),
    "ScatterND": Operator(fold=_scatter_nd, shared="joins"),
    "ScatterElements": Operator(fold=_scatter_elements, shared="joins"),
}
