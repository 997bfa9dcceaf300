"""Integers that count the examples of a batch, as exporters make them to index a mask.

Written for example ``i``, ``mask[arange(batch), keys]`` is ``mask[i, keys]``: what an example picks
of its own numbers. So of such integers the context holds how they grow from one example to the
next, and what takes an example's own numbers by them becomes a copy within the example; or a
product with ones and zeros, where integers of the example say which (``x[arange(batch), last]``).
They may be used for nothing else: an example's result does not depend on its place in the batch.
"""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Node, Shape
from gossamer.runtime.importer.parse import Call
from gossamer.runtime.operators.binary import combine, constant_binary
from gossamer.runtime.operators.context import (
    BATCH,
    Attributes,
    BatchIndex,
    Context,
    Unsupported,
    Value,
    axes_of,
    shown,
)
from gossamer.runtime.operators.folding import COMPARE, DTYPES
from gossamer.runtime.operators.layout_ops import gather
from gossamer.runtime.operators.linear import Matmul
from gossamer.runtime.operators.reshape import Reshape

MONOTONE = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
LINEAR = {"Add", "Sub", "Mul"}
SHAPE_ONLY = {"Min", "Max"}  # torch's newer exporter makes them to broadcast shapes


UNREADABLE = BatchIndex(np.zeros(0), np.zeros(0))  # of a value whose integers nobody may read


def _counts(context: Context, value: str) -> bool:
    known = context.values.get(value)
    return known is not None and known.batch_index is not None


def counts(context: Context, operator: str, inputs: list[str]) -> bool:
    """Whether an ONNX node counts the examples of the batch, or reads such a count."""
    if operator == "Range" and all(context.is_constant(value) for value in inputs):
        return [context.array(value).item() for value in inputs] == [0, BATCH, 1]
    return any(_counts(context, value) for value in inputs)


def count_batch(context: Context, call: Call) -> bool:
    """Convert a node that counts examples, or reads such a count."""
    operator, name, inputs = call.operator, call.name, call.inputs
    output, a = call.outputs[0], call.attributes
    if not counts(context, operator, inputs):
        return False
    if operator == "Range":
        _hold(context, output, (BATCH,), np.ones(1, np.int64), np.zeros(1, np.int64))
    elif operator in ("Add", "Concat") and any(_own(context, value) for value in inputs):
        _join(context, operator, name, inputs, output, a)
    elif operator in LINEAR | MONOTONE | SHAPE_ONLY:
        _pointwise(context, operator, inputs, output)
    elif operator in ("Cast", "Concat", "Expand", "Identity", "Unsqueeze"):
        _move(context, operator, inputs, output, a)
    elif operator in ("Gather", "GatherND") and not _counts(context, inputs[0]):
        _pick(context, operator, name, inputs, output, a)
    else:
        raise Unsupported("it computes with the places of examples in the batch")
    return True


def _own(context: Context, value: str) -> bool:
    """Whether a value holds integers that each example has itself."""
    known = context.is_constant(value) or _counts(context, value)
    return not known and context.kind(value) == "i"


def _join(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """A count and an example's own integers: their sum, or these as the last column."""
    *counts, own = sorted(inputs, key=lambda value: _own(context, value))
    shape, column = context.shape(counts[0]), context.shape(own)
    if operator == "Add":
        first, fit = _index(context, counts[0]), column == shape
    else:
        first = BatchIndex(*_joined(context, counts, -1, column))
        shape, fit = (*column[:-1], first.step.shape[-1]), own == inputs[-1] and column[-1] == 1
        fit = fit and int(a["axis"]) in (-1, len(column) - 1)
        context.emit(Node(Reshape(), name, (own,), f"{output} own"), column[:-1])
        own = f"{output} own"
    if not fit:
        raise Unsupported("it joins the places of examples and integers in other than one way")
    _hold(context, output, shape, first.step, first.start)
    context.values[output].batch_index = BatchIndex(first.step, first.start, own)


def _joined(context: Context, counts: list[str], axis: int, column: Shape) -> tuple[Array, Array]:
    """Counts side by side, and one column of zeros for what examples have themselves."""
    parts = [_index(context, value) for value in counts]
    none = np.zeros((1, *column[1:]), np.int64)
    within = [np.broadcast_to(part.step, none.shape) for part in parts]
    start = [np.broadcast_to(part.start, none.shape) for part in parts]
    return np.concatenate([*within, none], axis), np.concatenate([*start, none], axis)


def _ask(context: Context, shape: Shape) -> None:
    """Before integers of this shape are made."""
    if shape[0] != BATCH or BATCH in shape[1:]:
        raise Unsupported(f"it makes {shown(shape)} of the places of examples; batch first only")
    context.spend(2 * math.prod(shape[1:]))


def _hold(context: Context, output: str, shape: Shape, step: Array, start: Array) -> None:
    within = (1, *shape[1:])
    index = BatchIndex(np.broadcast_to(step, within), np.broadcast_to(start, within))
    context.values[output] = Value(shape, "i", batch_index=index)


def _index(context: Context, value: str) -> BatchIndex:
    """A constant is the same for every example."""
    if context.is_constant(value):
        start = context.array(value)
        if start.dtype.kind not in "iu":
            raise Unsupported("it computes with the places of examples, and not in integers")
        return BatchIndex(np.zeros_like(start), start)
    if (index := context.values[value].batch_index) is None:
        raise Unsupported("it computes numbers from the places of examples in the batch")
    if index is UNREADABLE:
        raise Unsupported("it reads the places of examples in the batch")
    if index.own:
        raise Unsupported("it computes with places of examples that are joined with integers")
    return index


def _pointwise(context: Context, operator: str, inputs: list[str], output: str) -> None:
    left, right = (_index(context, value) for value in inputs)
    shape = np.broadcast_shapes(*(context.shape(value) for value in inputs))
    if operator in SHAPE_ONLY:
        context.values[output] = Value(shape, "i", batch_index=UNREADABLE)
        return
    _ask(context, shape)
    if operator in MONOTONE:  # one answer for the first example and for all after it
        step, start = left.step - right.step, left.start - right.start
        least, most = np.where(step < 0, -np.inf, start), np.where(step > 0, np.inf, start)
        answer, other = (COMPARE[operator](bound, np.zeros(())) for bound in (least, most))
        if np.any(answer != other):
            raise Unsupported("its answer depends on the place of an example in the batch")
        context.add_constant(output, answer, shape)
    elif operator == "Mul":
        if np.any(left.step) and np.any(right.step):
            raise Unsupported("it multiplies the places of examples in the batch")
        step = left.step * right.start + left.start * right.step
        _hold(context, output, shape, step, left.start * right.start)
    else:
        combine_them = np.add if operator == "Add" else np.subtract
        step, start = combine_them(left.step, right.step), combine_them(left.start, right.start)
        _hold(context, output, shape, step, start)


def _move(context: Context, operator: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape, parts = list(context.shape(inputs[0])), [_index(context, inputs[0])]
    axis = 0
    if operator == "Cast" and DTYPES.get(a["to"]) is not np.int64:
        raise Unsupported("it casts the places of examples; to int64 only")
    if operator == "Expand":
        sizes = tuple(int(size) for size in np.ravel(context.constant(inputs[1], "shape")))
        shape = list(np.broadcast_shapes(tuple(shape), sizes))
    elif operator == "Unsqueeze":
        axes = axes_of(context, inputs, a)
        rank = len(shape) + len(axes)
        for new in sorted(new % rank for new in axes):
            shape.insert(new, 1)
    elif operator == "Concat":  # its constants are stored once for all examples
        axis, parts = int(a["axis"]) % len(shape), [_index(context, value) for value in inputs]
        shape[axis] = sum(context.shape(value)[axis] for value in inputs)
    _ask(context, tuple(shape))
    step = np.concatenate([part.step for part in parts], axis)
    start = np.concatenate([part.start for part in parts], axis)
    if operator == "Unsqueeze":
        step, start = step.reshape(1, *shape[1:]), start.reshape(1, *shape[1:])
    _hold(context, output, tuple(shape), step, start)


def _pick(
    context: Context, operator: str, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """What each example takes of its own numbers; Gather is GatherND by single indices."""
    value, shape = inputs[0], context.shape(inputs[0])
    if context.is_constant(value) and shape[:1] == (1,):  # stored once for all examples
        shape = (BATCH, *shape[1:])
    index = context.values[inputs[1]].batch_index
    index = _index(context, inputs[1]) if index is None or index is UNREADABLE else index
    step, start = index.step, index.start
    if operator == "Gather":
        step, start = step[..., None], start[..., None]
    if int(a.get("axis" if operator == "Gather" else "batch_dims", 0)) != 0:
        raise Unsupported("it picks by the places of examples, but not along the batch")
    depth = step.shape[-1]
    within = (shape[0] // BATCH, *shape[1:depth])
    own = shape[0] % BATCH == 0 and np.all(step[..., 0] == within[0]) and not step[..., 1:].any()
    if not own or np.any(start < 0) or np.any(start >= within):
        raise Unsupported(f"it picks of {shown(shape)} what is not each example's own")
    picked = np.ravel_multi_index(tuple(np.moveaxis(start, -1, 0)), within)
    count, rest = math.prod(within), shape[depth:]
    if index.own:
        sizes = count, within[-1] if operator == "GatherND" else 0
        _pick_by_own(context, name, value, output, index.own, picked, sizes, rest)
        return
    if context.is_constant(value):
        rows = context.array(value).reshape(count, *rest)
        context.spend(picked.size * math.prod(rest))
        context.add_constant(output, rows[picked], (BATCH, *picked.shape[1:], *rest))
        return
    flat, taken = f"{output} flat", f"{output} taken"
    context.emit(Node(Reshape(), name, (value,), flat), (BATCH, count, *rest))
    if not np.array_equal(picked.ravel(), np.arange(count)):
        context.add_constant(f"{output} index", picked.ravel())
        gather(context, name, [flat, f"{output} index"], taken, {"axis": 1})
        flat = taken
    context.emit(Node(Reshape(), name, (flat,), output), (BATCH, *picked.shape[1:], *rest))


def _pick_by_own(
    context: Context,
    name: str,
    value: str,
    output: str,
    own: str,
    base: Array,
    sizes: tuple[int, int],
    rest: Shape,
) -> None:
    """Rows by an example's own integers: a product with a matrix that has a one in each row.

    ``sizes``: how many rows there are, and from how many of them a negative integer counts back.
    """
    (count, last), rows = sizes, context.shape(own)[1:]
    context.spend(count + base.size)
    places, below, back, there, chosen, flat, taken = (
        f"{output} {part}"
        for part in ("places", "below", "back", "there", "chosen", "flat", "taken")
    )
    context.emit(Node(Reshape(), name, (own,), places), (BATCH, math.prod(rows), 1))
    constant_binary(context, "less", name, places, below, np.zeros(()))
    constant_binary(context, "mul", name, below, back, np.array(last))
    combine(context, "add", name, places, back, there)
    at = np.arange(count) - base.reshape(-1, 1)
    constant_binary(context, "equal", name, there, chosen, at)
    context.emit(Node(Reshape(), name, (value,), flat), (BATCH, count, math.prod(rest)))
    kind = context.kind(value)
    product = Node(Matmul(), name, (chosen, flat), taken)
    context.emit(product, (BATCH, math.prod(rows), math.prod(rest)), kind)
    context.emit(Node(Reshape(), name, (taken,), output), (BATCH, *rows, *rest))
