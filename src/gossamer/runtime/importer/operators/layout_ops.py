"""ONNX operators that only move numbers: slices, splits, repetitions, transposes.

All but transposes become one node, ``strided``: a copy by strides within an example; what no
strides reach is a linear map along an axis. Here the batch is the first dimension and stays so;
what takes it elsewhere is in ``batch_axis``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from gossamer.runtime.graph import Array, Node, Shape, merged, strides
from gossamer.runtime.importer.context import (
    Attributes,
    Context,
    Convert,
    Unsupported,
    check_rank,
    floats,
    numbers,
    shown,
)
from gossamer.runtime.importer.operators.linear import linear


def strided(
    context: Context,
    name: str,
    value: str,
    output: str,
    shape: Shape,
    sizes: list[int],
    source: list[int],
    target: list[int],
    *,
    start: int = 0,
    at: int = 0,
    clear: bool = False,
) -> None:
    """Copies ``sizes`` numbers of each example by strides; ``clear``: the rest is zero."""
    _check_loops(sizes, source, target)
    settings = {
        "sizes": sizes,
        "source": source,
        "target": target,
        "start": start,
        "at": at,
        "clear": clear,
    }
    context.emit(Node("strided", name, (value,), output, settings), shape)


def _check_loops(sizes: Sequence[int], source: list[int], target: list[int]) -> None:
    if len(merged(sizes, source, target)[0]) > 5:
        raise Unsupported("it moves more than five dimensions that do not lie together")


def place(context: Context, name: str, source: str, perm: list[int], output: str) -> None:
    """``source`` with its dimensions but the first permuted."""
    shape = context.shape(source)
    turned = tuple(shape[p] for p in perm)
    if perm == list(range(len(shape))):
        context.emit(Node("reshape", name, (source,), output), turned)
    else:
        steps = [strides(shape)[p] for p in perm[1:]]
        _check_loops(turned[1:], steps, strides(turned[1:]))
        context.emit(Node("transpose", name, (source,), output, {"perm": perm}), turned)


def on_axis(
    context: Context, name: str, value: str, axis: int, output: str, act: Callable[[str, str], None]
) -> None:
    """``act`` makes one value of another along its last axis: here along any, turned there."""
    rank = len(context.shape(value))
    if axis == rank - 1:
        act(value, output)
        return
    perm = [i for i in range(rank) if i != axis] + [axis]
    turned, done = f"{output} turned", f"{output} done"
    place(context, name, value, perm, turned)
    act(turned, done)
    place(context, name, done, [perm.index(i) for i in range(rank)], output)


Maps = list[tuple[int, int, Callable[[], Array]]]  # axis, its new size, what makes [new, old]


def along_axes(context: Context, name: str, value: str, output: str, maps: Maps) -> None:
    """Maps one axis after the other."""
    for position, (axis, size, make) in enumerate(maps):
        context.spend(size * context.shape(value)[axis])
        matrix, bias = make().astype(np.float32), np.zeros(size, np.float32)
        last = position == len(maps) - 1
        result = output if last else f"{output} along {axis}"
        act = partial(_mapped, context, name, matrix, bias)
        on_axis(context, name, value, axis, result, act)
        value = result


def _mapped(
    context: Context, name: str, matrix: Array, bias: Array, value: str, output: str
) -> None:
    linear(context, name, value, output, matrix, bias, {})


def _axis(context: Context, value: str, axis: int) -> int:
    rank = len(context.shape(value))
    if not -rank <= axis < rank:
        raise Unsupported(f"it has no axis {axis} in {shown(context.shape(value))}")
    return axis % rank


def permutation_of(context: Context, value: str, a: Attributes) -> list[int]:
    """The order in which Transpose takes the dimensions of a value."""
    rank = len(context.shape(value))
    perm = [int(p) for p in a.get("perm", range(rank)[::-1])]
    if sorted(perm) != list(range(rank)):
        raise Unsupported(f"it permutes {shown(context.shape(value))} by {perm}")
    return perm


def _transpose(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    place(context, name, inputs[0], permutation_of(context, inputs[0], a), output)


def _part(context: Context, name: str, value: str, axis: int, span: range, output: str) -> None:
    """The numbers at ``span`` along an axis."""
    shape = context.shape(value)
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    if not span:
        raise Unsupported(f"it takes nothing of {shown(shape)}")
    if span.step < 1:
        _scattered(context, name, value, axis, np.array(span), output)
        return
    outer, inner = math.prod(shape[1:axis]), math.prod(shape[axis + 1 :])
    strided(
        context,
        name,
        value,
        output,
        (*shape[:axis], len(span), *shape[axis + 1 :]),
        [outer, len(span), inner],
        [shape[axis] * inner, span.step * inner, 1],
        [len(span) * inner, inner, 1],
        start=span.start * inner,
    )


def drop(context: Context, name: str, value: str, axes: set[int], output: str) -> None:
    """The value without axes of size one."""
    shape = context.shape(value)
    if 0 in axes or any(shape[axis] != 1 for axis in axes):
        raise Unsupported(f"it squeezes axes {sorted(axes)} of {shown(shape)}")
    small = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    context.emit(Node("reshape", name, (value,), output), small)


def _embed(context: Context, name: str, table: Array, value: str, output: str) -> None:
    """Rows of a constant table by a value's integers."""
    if table.ndim != 2 or not table.size:
        raise Unsupported(f"it takes rows of a constant of shape {table.shape}; a matrix only")
    node = Node("embed", name, (value,), output, constants={"table": floats(table)})
    context.emit(node, (*context.shape(value), table.shape[1]), "f")


def _gather_elements(
    context: Context, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """From a constant row that all examples share: an embedding of single numbers."""
    row, shape = context.constant(inputs[0], "data"), context.shape(inputs[1])
    if row.ndim != len(shape) or row.size != row.shape[-1]:
        raise Unsupported(f"it takes elements of a constant of shape {row.shape}; one row only")
    if _axis(context, inputs[1], int(a.get("axis", 0))) != row.ndim - 1:
        raise Unsupported("it takes elements along another axis than the last")
    apart = f"{output} apart"
    _embed(context, name, numbers(row.reshape(-1, 1)), inputs[1], apart)
    context.emit(Node("reshape", name, (apart,), output), shape, context.kind(inputs[0]))


def _gather(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.is_constant(inputs[0]) and int(a.get("axis", 0)) == 0:
        _embed(context, name, context.array(inputs[0]), inputs[1], output)
        return
    index = context.constant(inputs[1], "index")
    axis = _axis(context, inputs[0], int(a.get("axis", 0)))
    size = context.shape(inputs[0])[axis]
    picked = np.ravel(index)
    if not picked.size or picked.min() < -size or picked.max() >= size:
        raise Unsupported(f"it gathers nothing, or beyond the {size} of its axis")
    picked = picked % size
    steps = set(np.diff(picked).tolist())
    if index.ndim > 1 or len(steps) > 1 or min(steps, default=1) < 1:
        _scattered(context, name, inputs[0], axis, index % size, output)
        return
    first, step = int(picked[0]), steps.pop() if steps else 1
    span = range(first, first + step * len(picked), step)
    piece = output if index.ndim else f"{output} with axis"
    _part(context, name, inputs[0], axis, span, piece)
    if not index.ndim:
        drop(context, name, piece, {axis}, output)


def _scattered(
    context: Context, name: str, value: str, axis: int, index: Array, output: str
) -> None:
    """The numbers at any places along an axis: its map has a one in each row."""
    shape = context.shape(value)
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    taken = output if index.ndim == 1 else f"{output} in a row"
    along_axes(
        context,
        name,
        value,
        taken,
        [(axis, index.size, lambda: np.eye(shape[axis])[index.ravel()])],
    )
    if index.ndim > 1:
        whole = (*shape[:axis], *index.shape, *shape[axis + 1 :])
        context.emit(Node("reshape", name, (taken,), output), whole)


def _slice(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    starts, ends = (np.ravel(context.constant(i, "limits")).tolist() for i in inputs[1:3])
    more = [np.ravel(context.constant(i, "axes")).tolist() if i else None for i in inputs[3:5]]
    axes = more[0] if more and more[0] is not None else list(range(len(starts)))
    steps = more[1] if len(more) > 1 and more[1] is not None else [1] * len(starts)
    value = inputs[0]
    parts = list(zip(starts, ends, axes, steps, strict=True))
    for i, (start, end, which, step) in enumerate(parts):
        axis = _axis(context, value, int(which))
        span = range(context.shape(value)[axis])[int(start) : int(end) : int(step)]
        result = output if i == len(parts) - 1 else f"{output} cut {i}"
        _part(context, name, value, axis, span, result)
        value = result


def _split(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    axis = _axis(context, inputs[0], int(a.get("axis", 0)))
    size, outputs = context.shape(inputs[0])[axis], context.outputs
    if len(inputs) > 1 and inputs[1]:
        parts = [int(p) for p in np.ravel(context.constant(inputs[1], "parts"))]
    else:
        each = -(-size // len(outputs))
        parts = [min(each, size - i * each) for i in range(len(outputs))]
    if len(parts) != len(outputs) or sum(parts) != size or min(parts) < 1:
        raise Unsupported(f"it splits {size} into {parts}")
    at = 0
    for part, result in zip(parts, outputs, strict=True):
        if result:
            _part(context, name, inputs[0], axis, range(at, at + part), result)
        at += part


def _squeeze(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = context.shape(inputs[0])
    axes = {_axis(context, inputs[0], axis) for axis in axes_of(context, inputs, a)}
    drop(context, name, inputs[0], axes or {i for i, size in enumerate(shape) if size == 1}, output)


def axes_of(context: Context, inputs: list[str], a: Attributes) -> list[int]:
    """The axes that an operator names in its second input or its attribute."""
    axes = a.get("axes", [])
    if len(inputs) > 1 and inputs[1]:
        axes = np.ravel(context.constant(inputs[1], "axes"))
    check_rank(len(axes))
    return [int(axis) for axis in axes]


def _expand(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    sizes = [int(s) for s in np.ravel(context.constant(inputs[1], "shape"))]
    expand(context, name, inputs[0], np.broadcast_shapes(context.shape(inputs[0]), sizes), output)


def expand(context: Context, name: str, value: str, shape: Shape, output: str) -> None:
    """Repeats a value along dimensions of size one."""
    own = context.shape(value)
    if len(own) != len(shape) or own[0] != shape[0]:
        raise Unsupported(f"it repeats {shown(own)} to {shown(shape)}; within an example only")
    sizes = list(shape[1:])
    source = [
        0 if size == 1 else step for size, step in zip(own[1:], strides(own[1:]), strict=True)
    ]
    strided(context, name, value, output, shape, sizes, source, strides(shape[1:]))


def _depth_to_space(
    context: Context, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    shape, r = context.shape(inputs[0]), int(a["blocksize"])
    if len(shape) != 4 or r < 1 or shape[1] % (r * r):
        raise Unsupported(f"it makes blocks of {r} of {shown(shape)}")
    c, h, w = shape[1] // (r * r), shape[2], shape[3]
    sizes = [c, h, r, w, r]
    if a.get("mode", "DCR") == "CRD":
        source = [r * r * h * w, w, r * h * w, 1, h * w]
    else:
        source = [h * w, w, r * c * h * w, 1, c * h * w]
    resized = (shape[0], c, h * r, w * r)
    strided(context, name, inputs[0], output, resized, sizes, source, strides(tuple(sizes)))


LAYOUT_OPS: dict[str, Convert] = {
    "Expand": _expand,
    "Transpose": _transpose,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "DepthToSpace": _depth_to_space,
}
