"""ONNX operators that only move numbers: slices, splits, repetitions, transposes.

All but transposes become one operation, ``Strided``: a copy by strides within an example; what no
strides reach is a linear map along an axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gossamer.runtime.c.loops import moved
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Shape, Single, merged, strides
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.batch_axis import (
    NOWHERE,
    along,
    by_axes,
    convert_in_front,
    in_front,
    settle,
)
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import BatchAxis, Context, floats, numbers, shown
from gossamer.runtime.operators.folding import LEFT_OUT, bounded
from gossamer.runtime.operators.linear import linear
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape
from gossamer.runtime.operators.unsupported import Unsupported

MOST_RUNS = 16  # of evenly spaced numbers, each a copy of its own


@dataclass(frozen=True)
class Strided(Single):
    """A copy of ``sizes`` numbers of each example by strides; ``clear``: the rest is zero."""

    op = "strided"

    sizes: tuple[int, ...]
    source: tuple[int, ...]
    target: tuple[int, ...]
    start: int = 0
    at: int = 0
    clear: bool = False

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value = lowering.values[node.inputs[0]]
        result = lowering.value(node.output)
        lowering.copy(
            lowering.form(value, "dense"),
            lowering.new(result, "dense", result.item),
            value.items,
            self.sizes,
            self.source,
            self.target,
            start=self.start,
            at=self.at,
            clear=result.item if self.clear else 0,
        )

    def write(self, writer: Writer, node: AnyNode) -> None:
        moved(writer, node, self.sizes, self.source, self.target,
               start=self.start, at=self.at, clear=self.clear)  # fmt: skip


@dataclass(frozen=True)
class Windows(Strided):
    """``within`` outputs of a layer after each other are a window of one channel."""

    within: int = 1


@dataclass(frozen=True)
class Transpose(Single):
    """The dimensions in the order ``perm``, the batch first."""

    op = "transpose"

    perm: tuple[int, ...]

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value = lowering.values[node.inputs[0]]
        result = lowering.value(node.output)
        perm = self.perm
        sizes = [value.shape[p] for p in perm[1:]]
        steps = np.cumprod([1, *value.shape[:1:-1]])[::-1].tolist()
        out = np.cumprod([1, *sizes[:0:-1]])[::-1].tolist() if sizes else []
        lowering.copy(
            lowering.form(value, "dense"),
            lowering.new(result, "dense", result.item),
            value.items,
            sizes,
            [steps[p - 1] for p in perm[1:]],
            out,
        )

    def write(self, writer: Writer, node: AnyNode) -> None:
        shape = writer.shape(node.output)[1:]
        steps = strides(writer.shape(node.inputs[0])[1:])
        source = [steps[axis - 1] for axis in self.perm[1:]]
        moved(writer, node, list(shape), source, strides(shape))


@dataclass(frozen=True)
class Embed(Single):
    """Rows of the constant ``table``."""

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


@dataclass(frozen=True)
class Concat(Single):
    """Values side by side along an axis."""

    op = "concat"

    axis: int

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        values = [lowering.values[name] for name in node.inputs]
        result = lowering.value(node.output)
        axis = self.axis
        last = axis == 1 and len(result.shape) > 2  # images whose channels lie last stay so
        last = last and all(
            lowering.layout(v) == "last" and v.pixels == result.pixels for v in values
        )
        outer = result.pixels if last else math.prod(result.shape[1:axis])
        inner = 1 if last else math.prod(result.shape[axis + 1 :])
        plain = "last" if last else "dense"
        sources = [lowering.form(value, plain) for value in values]
        buffer = lowering.new(result, plain, result.item)
        at, whole = 0, result.shape[axis] * inner
        for value, source in zip(values, sources, strict=True):
            part = value.shape[axis] * inner
            lowering.copy(source, buffer, value.items, [outer, part], [part, 1], [whole, 1], at=at)
            at += part

    def write(self, writer: Writer, node: AnyNode) -> None:
        axis = self.axis
        shapes = [writer.shape(value) for value in node.inputs]
        lines = []
        for i, shape in enumerate(shapes):
            source, size = f"x{i}" if i else "x", math.prod(shape[axis:])
            lines.append(f"    for (i = 0; i < {size}; ++i) *y++ = *{source}++;")
        outer = math.prod(shapes[0][:axis])
        body = "\n".join([f"for (n = 0; n < {outer}; ++n) {{", *lines, "}"])
        writer.function(node, "n, i", body)


def strided(
    context: Context,
    value: str,
    output: str,
    shape: Shape,
    sizes: list[int],
    source: list[int],
    target: list[int] | None = None,
    *,
    start: int = 0,
    at: int = 0,
    clear: bool = False,
) -> str:
    """Copy ``sizes`` numbers of each example by strides; ``clear``: the rest is zero.

    Side by side if no ``target`` is given. Returns as ``Context.emit``.
    """
    target = strides(tuple(sizes)) if target is None else target
    _check_loops(sizes, source, target)
    operation = Strided(tuple(sizes), tuple(source), tuple(target), start, at, clear)
    return context.emit(operation, value, output, shape)


def _check_loops(sizes: Sequence[int], source: list[int], target: list[int]) -> None:
    if len(merged(sizes, source, target)[0]) > 5:
        raise Unsupported("it moves more than five dimensions that are not adjacent in memory")


def place(context: Context, source: str, perm: list[int], output: str = "") -> str:
    """``source`` with its dimensions but the first permuted; returns as ``Context.emit``."""
    shape = context.shape(source)
    turned = tuple(shape[p] for p in perm)
    if perm == list(range(len(shape))):
        return context.emit(Reshape(), source, output, turned)
    steps = [strides(shape)[p] for p in perm[1:]]
    _check_loops(turned[1:], steps, strides(turned[1:]))
    return context.emit(Transpose(tuple(perm)), source, output, turned)


def on_axis(
    context: Context, value: str, axis: int, output: str, act: Callable[[str, str], str]
) -> str:
    """``act`` makes one value of another along its last axis: here along any, turned there."""
    rank = len(context.shape(value))
    if axis == rank - 1:
        return act(value, output)
    perm = [i for i in range(rank) if i != axis] + [axis]
    done = act(place(context, value, perm), "")
    return place(context, done, [perm.index(i) for i in range(rank)], output)


Maps = list[tuple[int, int, Callable[[], Array]]]  # axis, its new size, what makes [new, old]


def along_axes(context: Context, value: str, output: str, maps: Maps) -> str:
    """Maps one axis after the other."""
    for position, (axis, size, make) in enumerate(maps, start=1):
        context.spend(size * context.shape(value)[axis])
        matrix, bias = make().astype(np.float32), np.zeros(size, np.float32)
        act = partial(linear, context, weight=matrix, bias=bias)
        value = on_axis(context, value, axis, output if position == len(maps) else "", act)
    return value


def axis_of(context: Context, value: str, axis: int) -> int:
    rank = len(context.shape(value))
    if not -rank <= axis < rank:
        raise Unsupported(f"it has no axis {axis} in {shown(context.shape(value))}")
    return axis % rank


def permutation_of(context: Context, call: Call) -> list[int]:
    """The order in which Transpose takes the dimensions of its input."""
    shape = context.shape(call.value)
    perm = [int(p) for p in call.get("perm", range(len(shape))[::-1])]
    if sorted(perm) != list(range(len(shape))):
        raise Unsupported(f"it permutes {shown(shape)} by {perm}")
    return perm


def _transpose(context: Context, call: Call) -> None:
    place(context, call.value, permutation_of(context, call), call.output)


def _part(context: Context, value: str, axis: int, span: range, output: str = "") -> str:
    """The numbers at ``span`` along an axis."""
    shape = context.shape(value)
    if span == range(shape[axis]):
        return context.emit(Reshape(), value, output)
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    if not span:
        raise Unsupported(f"it takes no element of {shown(shape)}")
    return _spaced(context, value, axis, span.start, span.step, len(span), output)


def _spaced(
    context: Context, value: str, axis: int, first: int, step: int, count: int, output: str = ""
) -> str:
    """``count`` numbers along an axis from ``first`` on, any step apart."""
    shape = context.shape(value)
    outer, inner = math.prod(shape[1:axis]), math.prod(shape[axis + 1 :])
    taken = (*shape[:axis], count, *shape[axis + 1 :])
    source = [shape[axis] * inner, step * inner, 1]
    return strided(
        context, value, output, taken, [outer, count, inner], source, start=first * inner
    )


def take(context: Context, value: str, axis: int, index: Array, output: str = "") -> str:
    """The numbers at any places along an axis.

    Copies of evenly spaced ones side by side, where these are few; else a linear map with a one in
    each row.
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
        return _spaced(context, value, axis, *runs[0], output)
    pieces = tuple(_spaced(context, value, axis, *run) for run in runs)
    joined = (*shape[:axis], len(index), *shape[axis + 1 :])
    return context.emit(Concat(axis), pieces, output, joined)


def _runs(index: list[int]) -> list[tuple[int, int, int]]:
    """Numbers as runs of evenly spaced ones: the first, the step and how many."""
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


def drop(context: Context, value: str, axes: set[int], output: str) -> None:
    """The value without axes of size one."""
    shape = context.shape(value)
    if 0 in axes or any(shape[axis] != 1 for axis in axes):
        raise Unsupported(f"it squeezes axes {sorted(axes)} of {shown(shape)}")
    small = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    context.emit(Reshape(), value, output, small)


def _embed(context: Context, table: Array, value: str, output: str = "") -> str:
    """Rows of a constant table by a value's integers."""
    if table.ndim != 2 or not table.size:
        raise Unsupported(f"it takes rows of a constant of shape {table.shape}; a matrix only")
    shape = (*context.shape(value), table.shape[1])
    return context.emit(Embed(), value, output, shape, "f", {"table": floats(table)})


def _gather_elements(context: Context, call: Call) -> None:
    """From a constant row that all examples share: an embedding of single numbers."""
    data, index = call.inputs
    row, shape = context.constant(data, "data"), context.shape(index)
    if row.ndim != len(shape) or row.size != row.shape[-1]:
        raise Unsupported(f"it takes elements of a constant of shape {row.shape}; one row only")
    if axis_of(context, index, int(call.get("axis", 0))) != row.ndim - 1:
        raise Unsupported("it takes elements along another axis than the last")
    apart = _embed(context, numbers(row.reshape(-1, 1)), index)
    context.emit(Reshape(), apart, call.output, shape, context.kind(data))


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
    piece = _part(context, value, axis, span, call.output if index.ndim else "")
    if not index.ndim:
        drop(context, piece, {axis}, call.output)


def _scattered(context: Context, value: str, axis: int, index: Array, output: str) -> None:
    """The numbers at any places along an axis but the batch's."""
    shape = context.shape(value)
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    taken = take(context, value, axis, index.ravel(), output if index.ndim == 1 else "")
    if index.ndim > 1:
        whole = (*shape[:axis], *index.shape, *shape[axis + 1 :])
        context.emit(Reshape(), taken, output, whole)


def _slice(context: Context, call: Call) -> None:
    starts, ends = (context.integers(i, "limits") for i in call.inputs[1:3])
    axes, steps = list(range(len(starts))), [1] * len(starts)
    if named := call.optional(3):
        axes = context.integers(named, "axes")
    if named := call.optional(4):
        steps = context.integers(named, "steps")
    value = call.value
    parts = list(zip(starts, ends, axes, steps, strict=True))
    for i, (start, end, which, step) in enumerate(parts, start=1):
        axis = axis_of(context, value, which)
        span = range(context.shape(value)[axis])[start:end:step]
        value = _part(context, value, axis, span, call.output if i == len(parts) else "")


def _split(context: Context, call: Call) -> None:
    axis = axis_of(context, call.value, int(call.get("axis", 0)))
    size, outputs = context.shape(call.value)[axis], call.outputs
    if named := call.optional(1):
        parts = context.integers(named, "parts")
    else:
        each = -(-size // len(outputs))
        parts = [min(each, size - i * each) for i in range(len(outputs))]
    if len(parts) != len(outputs) or sum(parts) != size or min(parts) < 1:
        raise Unsupported(f"it splits {size} into {parts}")
    at = 0
    for part, result in zip(parts, outputs, strict=True):
        if result:
            _part(context, call.value, axis, range(at, at + part), result)
        at += part


def _expand(context: Context, call: Call) -> None:
    sizes = context.integers(call.inputs[1], "shape")
    shape = np.broadcast_shapes(context.shape(call.value), tuple(sizes))
    expand(context, call.value, shape, call.output)


def expand(context: Context, value: str, shape: Shape, output: str = "") -> str:
    """Repeat a value along dimensions of size one; returns as ``Context.emit``."""
    own = context.shape(value)
    if len(own) != len(shape) or own[0] != shape[0]:
        raise Unsupported(f"it repeats {shown(own)} to {shown(shape)}; within an example only")
    source = [
        0 if size == 1 else step for size, step in zip(own[1:], strides(own[1:]), strict=True)
    ]
    return strided(context, value, output, shape, list(shape[1:]), source)


def _depth_to_space(context: Context, call: Call) -> None:
    shape, r = context.shape(call.value), int(call.attributes["blocksize"])
    if len(shape) != 4 or r < 1 or shape[1] % (r * r):
        raise Unsupported(f"it makes blocks of {r} of {shown(shape)}")
    c, h, w = shape[1] // (r * r), shape[2], shape[3]
    if call.get("mode", "DCR") == "CRD":
        source = [r * r * h * w, w, r * h * w, 1, h * w]
    else:
        source = [h * w, w, r * c * h * w, 1, c * h * w]
    resized = (shape[0], c, h * r, w * r)
    strided(context, call.value, call.output, resized, [c, h, r, w, r], source)


def _space_to_depth(context: Context, call: Call) -> None:
    shape, r = context.shape(call.value), int(call.attributes["blocksize"])
    if len(shape) != 4 or r < 1 or shape[2] % r or shape[3] % r:
        raise Unsupported(f"it makes blocks of {r} of {shown(shape)}")
    _, c, h, w = shape
    sizes, source = [r, r, c, h // r, w // r], [w, 1, h * w, r * w, r]
    if call.get("mode", "DCR") == "CRD":  # channels outermost
        sizes, source = [c, r, r, *sizes[3:]], [h * w, w, 1, *source[3:]]
    resized = (shape[0], c * r * r, h // r, w // r)
    strided(context, call.value, call.output, resized, sizes, source)


def _tile(context: Context, call: Call) -> None:
    shape = context.shape(call.value)
    times = context.integers(call.inputs[1], "repeats")
    if len(times) != len(shape) or times[0] != 1 or min(times) < 1:
        raise Unsupported(f"it repeats {shown(shape)} {times} times; within an example only")
    steps, pairs = strides(shape[1:]), list(zip(times[1:], shape[1:], strict=True))
    sizes = [size for pair in pairs for size in pair]
    source = [step for own in steps for step in (0, own)]
    larger = (shape[0], *(by * n for by, n in pairs))
    strided(context, call.value, call.output, larger, sizes, source)


def _gather_turned(context: Context, convert: Convert, call: Call) -> None:
    if not context.is_constant(call.value):
        along(0)(context, convert, call)
        return
    batched, _ = in_front(context, call.inputs[1], call.output)  # an embedding
    convert_in_front(context, convert, call, [call.value, batched.source], batched)


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


def _slice_constant(x: list[Array], a: Attributes) -> Array:
    parts = [slice(None)] * x[0].ndim
    starts, ends = np.ravel(x[1]), np.ravel(x[2])
    axes = np.ravel(x[3]) if len(x) > 3 and x[3] is not LEFT_OUT else np.arange(len(starts))
    steps = np.ravel(x[4]) if len(x) > 4 else np.ones(len(starts), np.int64)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[int(axis)] = slice(int(start), int(end), int(step))
    return np.asarray(x[0][tuple(parts)])


def _elements_constant(x: list[Array], a: Attributes) -> Array:
    axis = a.get("axis", 0) % x[0].ndim
    near = [slice(None if i == axis else size) for i, size in enumerate(x[1].shape)]
    return np.take_along_axis(x[0][tuple(near)], x[1].astype(np.int64), axis)


def _gather_nd(x: list[Array], a: Attributes) -> Array:
    if a.get("batch_dims"):
        raise Unsupported("it has batch dimensions; export without")
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
    depth = x[1].shape[-1]
    return math.prod((*x[1].shape[:-1], *x[0].shape[depth:]))


def _expand_constant(x: list[Array], a: Attributes) -> Array:
    return np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, bounded(x[1]))).copy()


LAYOUT_OPS: Operators = {
    "Expand": Operator(
        _expand, _expand_constant, lambda x, a: max(math.prod(bounded(x[-1])), x[0].size)
    ),
    "Transpose": Operator(
        _transpose,
        lambda x, a: np.transpose(x[0], a.get("perm")),
        shared="view",
        turned=_transpose_turned,
    ),
    "Gather": Operator(
        _gather,
        lambda x, a: np.take(x[0], x[1].astype(np.int64), axis=a.get("axis", 0)),
        lambda x, a: int(x[1].size * (x[0].size // max(1, x[0].shape[a.get("axis", 0)]))),
        turned=_gather_turned,
    ),
    "GatherElements": Operator(_gather_elements, _elements_constant, lambda x, a: x[1].size),
    "GatherND": Operator(fold=_gather_nd, size=_gathered_nd, shared="joins"),
    "ScatterND": Operator(fold=_scatter_nd, shared="joins"),
    "ScatterElements": Operator(fold=_scatter_elements, shared="joins"),
    "Slice": Operator(_slice, _slice_constant, turned=by_axes("slice")),
    "Split": Operator(_split, turned=along(0, all_outputs=True)),
    "DepthToSpace": Operator(_depth_to_space),
    "SpaceToDepth": Operator(_space_to_depth),
    "Tile": Operator(
        _tile,
        fold=lambda x, a: np.tile(x[0], bounded(x[1])),
        size=lambda x, a: x[0].size * math.prod(bounded(x[1])),
        shared="joins",
    ),
}
