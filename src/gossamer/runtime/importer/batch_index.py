"""Indices of the examples in a batch (``arange(batch)``), which exporters write to index a mask.

For example ``i``, ``mask[arange(batch), keys]`` is ``mask[i, keys]``: each example gathers from its
own numbers. Such indices are not computed; the context records them as a linear function of ``i``
(``BatchIndex``). A gather by them becomes a copy within the example or, where the example has
indices of its own (``x[arange(batch), last]``), a product with a one-hot matrix. Any other use is
refused, since the result for an example must not depend on its position in the batch.
"""

from __future__ import annotations

import math

import numpy as np

from gossamer.runtime.graph import Array, Shape
from gossamer.runtime.operators.binary import combine, constant_binary
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import BATCH, BatchIndex, Context, Value, axes_of, shown
from gossamer.runtime.operators.folding import COMPARE, DTYPES
from gossamer.runtime.operators.gather import take, take_own
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported

MONOTONE = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual"}
LINEAR = {"Add", "Sub", "Mul"}
SHAPE_ONLY = {"Min", "Max"}  # torch's newer exporter makes them to broadcast shapes


UNREADABLE = BatchIndex(np.zeros(0), np.zeros(0))  # only the shape of such a value may be used


def _counts(context: Context, value: str) -> bool:
    known = context.values.get(value)
    return known is not None and known.batch_index is not None


def counts(context: Context, call: Call) -> bool:
    """Whether a node makes indices of the batch's examples, or reads such indices."""
    if call.operator == "Range" and all(context.is_constant(value) for value in call.inputs):
        return [context.array(value).item() for value in call.inputs] == [0, BATCH, 1]
    return any(_counts(context, value) for value in call.inputs)


def count_batch(context: Context, call: Call) -> bool:
    """Convert a node that makes or reads indices of examples; return whether it is one."""
    operator = call.operator
    if not counts(context, call):
        return False
    if operator == "Range":
        _hold(context, call.output, (BATCH,), np.ones(1, np.int64), np.zeros(1, np.int64))
    elif operator in ("Add", "Concat") and any(_own(context, value) for value in call.inputs):
        _join(context, call)
    elif operator in LINEAR | MONOTONE | SHAPE_ONLY:
        _pointwise(context, call)
    elif operator in ("Cast", "Concat", "Expand", "Identity", "Unsqueeze"):
        _move(context, call)
    elif operator in ("Gather", "GatherND") and not _counts(context, call.value):
        _pick(context, call)
    else:
        raise Unsupported("it computes with the indices of examples in the batch")
    return True


def _own(context: Context, value: str) -> bool:
    """Whether a value is integers that are part of each example."""
    known = context.is_constant(value) or _counts(context, value)
    return not known and context.kind(value) == "i"


def _join(context: Context, call: Call) -> None:
    """Convert Add or Concat of indices of examples and an example's own integers."""
    *counts, own = sorted(call.inputs, key=lambda value: _own(context, value))
    shape, column = context.shape(counts[0]), context.shape(own)
    if call.operator == "Add":
        first, fit = _index(context, counts[0]), column == shape
    else:
        first = BatchIndex(*_joined(context, counts, -1, column))
        shape = (*column[:-1], first.step.shape[-1])
        fit = own == call.inputs[-1] and column[-1] == 1
        fit = fit and int(call.attributes["axis"]) in (-1, len(column) - 1)
        own = context.emit(Reshape(), own, shape=column[:-1])
    if not fit:
        raise Unsupported("it joins indices of examples and integers in a way that cannot run")
    _hold(context, call.output, shape, first.step, first.start)
    context.values[call.output].batch_index = BatchIndex(first.step, first.start, own)


def _joined(context: Context, counts: list[str], axis: int, column: Shape) -> tuple[Array, Array]:
    """Return steps and starts of concatenated indices, 0 in the column of own integers."""
    parts = [_index(context, value) for value in counts]
    none = np.zeros((1, *column[1:]), np.int64)
    within = [np.broadcast_to(part.step, none.shape) for part in parts]
    start = [np.broadcast_to(part.start, none.shape) for part in parts]
    return np.concatenate([*within, none], axis), np.concatenate([*start, none], axis)


def _ask(context: Context, shape: Shape) -> None:
    """Check the shape of indices and count their numbers before they are computed."""
    if shape[0] != BATCH or BATCH in shape[1:]:
        raise Unsupported(f"it makes {shown(shape)} of the indices of examples; batch first only")
    context.spend(2 * math.prod(shape[1:]))


def _hold(context: Context, output: str, shape: Shape, step: Array, start: Array) -> None:
    within = (1, *shape[1:])
    index = BatchIndex(np.broadcast_to(step, within), np.broadcast_to(start, within))
    context.values[output] = Value(shape, "i", batch_index=index)


def _index(context: Context, value: str) -> BatchIndex:
    """Return the indices of a value; those of a constant are the same for every example."""
    if context.is_constant(value):
        start = context.array(value)
        if start.dtype.kind not in "iu":
            raise Unsupported("it computes with the indices of examples, but not in integers")
        return BatchIndex(np.zeros_like(start), start)
    if (index := context.values[value].batch_index) is None:
        raise Unsupported("it computes numbers from the indices of examples in the batch")
    if index is UNREADABLE:
        raise Unsupported("it reads the indices of examples in the batch")
    if index.own:
        raise Unsupported("it computes with indices of examples that are joined with integers")
    return index


def _pointwise(context: Context, call: Call) -> None:
    operator, output = call.operator, call.output
    left, right = (_index(context, value) for value in call.inputs)
    shape = np.broadcast_shapes(*(context.shape(value) for value in call.inputs))
    if operator in SHAPE_ONLY:
        context.values[output] = Value(shape, "i", batch_index=UNREADABLE)
        return
    _ask(context, shape)
    if operator in MONOTONE:  # one answer for the first example and for all after it
        step, start = left.step - right.step, left.start - right.start
        least, most = np.where(step < 0, -np.inf, start), np.where(step > 0, np.inf, start)
        answer, other = (COMPARE[operator](bound, np.zeros(())) for bound in (least, most))
        if np.any(answer != other):
            raise Unsupported("its result depends on the index of an example in the batch")
        context.add_constant(output, answer, shape)
    elif operator == "Mul":
        if np.any(left.step) and np.any(right.step):
            raise Unsupported("it multiplies the indices of examples in the batch")
        step = left.step * right.start + left.start * right.step
        _hold(context, output, shape, step, left.start * right.start)
    else:
        combine_them = np.add if operator == "Add" else np.subtract
        step, start = combine_them(left.step, right.step), combine_them(left.start, right.start)
        _hold(context, output, shape, step, start)


def _move(context: Context, call: Call) -> None:
    shape, parts = list(context.shape(call.value)), [_index(context, call.value)]
    operator, axis = call.operator, 0
    if operator == "Cast" and DTYPES.get(call.attributes["to"]) is not np.int64:
        raise Unsupported("it casts the indices of examples; only to int64 can run")
    if operator == "Expand":
        sizes = tuple(context.integers(call.inputs[1], "shape"))
        shape = list(np.broadcast_shapes(tuple(shape), sizes))
    elif operator == "Unsqueeze":
        axes = axes_of(context, call)
        rank = len(shape) + len(axes)
        for new in sorted(new % rank for new in axes):
            shape.insert(new, 1)
    elif operator == "Concat":  # its constants are stored once for all examples
        axis = int(call.attributes["axis"]) % len(shape)
        parts = [_index(context, value) for value in call.inputs]
        shape[axis] = sum(context.shape(value)[axis] for value in call.inputs)
    _ask(context, tuple(shape))
    step = np.concatenate([part.step for part in parts], axis)
    start = np.concatenate([part.start for part in parts], axis)
    if operator == "Unsqueeze":
        step, start = step.reshape(1, *shape[1:]), start.reshape(1, *shape[1:])
    _hold(context, call.output, tuple(shape), step, start)


def _pick(context: Context, call: Call) -> None:
    """Convert Gather or GatherND from an example's own numbers."""
    value, shape, output = call.value, context.shape(call.value), call.output
    single = call.operator == "Gather"
    if context.is_constant(value) and shape[:1] == (1,):  # stored once for all examples
        shape = (BATCH, *shape[1:])
    index = context.values[call.inputs[1]].batch_index
    index = _index(context, call.inputs[1]) if index is None or index is UNREADABLE else index
    step, start = index.step, index.start
    if single:
        step, start = step[..., None], start[..., None]
    if int(call.get("axis" if single else "batch_dims", 0)) != 0:
        raise Unsupported("it gathers by the indices of examples, but not along the batch")
    depth = step.shape[-1]
    within = (shape[0] // BATCH, *shape[1:depth])
    own = shape[0] % BATCH == 0 and np.all(step[..., 0] == within[0]) and not step[..., 1:].any()
    if not own or np.any(start < 0) or np.any(start >= within):
        raise Unsupported(f"it gathers from {shown(shape)} numbers of other examples")
    picked = np.ravel_multi_index(tuple(np.moveaxis(start, -1, 0)), within)
    count, rest = math.prod(within), shape[depth:]
    if index.own:
        sizes = count, 0 if single else within[-1]
        _pick_by_own(context, call, index.own, picked, sizes, rest)
        return
    taken_shape = (BATCH, *picked.shape[1:], *rest)
    if context.is_constant(value):
        rows = context.array(value).reshape(count, *rest)
        context.spend(picked.size * math.prod(rest))
        context.add_constant(output, rows[picked], taken_shape)
        return
    taken = context.emit(Reshape(), value, shape=(BATCH, count, *rest))
    if not np.array_equal(picked.ravel(), np.arange(count)):
        taken = take(context, taken, 1, picked.ravel())
    context.emit(Reshape(), taken, output, taken_shape)


def _pick_by_own(
    context: Context, call: Call, own: str, base: Array, sizes: tuple[int, int], rest: Shape
) -> None:
    """Take rows by an example's own integers, as a product with a one-hot matrix.

    ``sizes`` are the number of rows, and the number that is added to negative integers.
    """
    (count, last), rows = sizes, context.shape(own)[1:]
    context.spend(count + base.size)
    places = context.emit(Reshape(), own, shape=(BATCH, math.prod(rows), 1))
    back = constant_binary(context, "mul", constant_binary(context, "less", places, 0.0), last)
    there = combine(context, "add", places, back)
    result = (BATCH, *rows, *rest)
    base = base.reshape(-1, 1)
    take_own(context, call.value, there, (count, rest), call.output, result, base)
