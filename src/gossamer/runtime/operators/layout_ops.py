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
from gossamer.runtime.graph import AnyNode, Array, Node, Shape, Single, merged, strides
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.batch_axis import NOWHERE, along, by_axes, in_front, settle
from gossamer.runtime.operators.context import (
    Attributes,
    BatchAxis,
    Context,
    Unsupported,
    floats,
    numbers,
    shown,
)
from gossamer.runtime.operators.folding import LEFT_OUT, bounded
from gossamer.runtime.operators.linear import linear
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.reshape import Reshape

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
            value.lead,
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
            value.lead,
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
        value = lowering.values[node.inputs[0]]
        result = lowering.value(node.output)
        table = node.constants["table"]
        lowering.add(
            node.name,
            lowering.kernel("embed"),
            (lowering.form(value, "dense"),),
            lowering.new(result, "dense", result.item),
            {"count": value.item, "rows": table.shape[0], "width": table.shape[1]},
            data=[table],
            lead=value.lead,
        )

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
            lowering.copy(source, buffer, value.lead, [outer, part], [part, 1], [whole, 1], at=at)
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
    operation = Strided(tuple(sizes), tuple(source), tuple(target), start, at, clear)
    context.emit(Node(operation, name, (value,), output), shape)


def _check_loops(sizes: Sequence[int], source: list[int], target: list[int]) -> None:
    if len(merged(sizes, source, target)[0]) > 5:
        raise Unsupported("it moves more than five dimensions that do not lie together")


def place(context: Context, name: str, source: str, perm: list[int], output: str) -> None:
    """``source`` with its dimensions but the first permuted."""
    shape = context.shape(source)
    turned = tuple(shape[p] for p in perm)
    if perm == list(range(len(shape))):
        context.emit(Node(Reshape(), name, (source,), output), turned)
    else:
        steps = [strides(shape)[p] for p in perm[1:]]
        _check_loops(turned[1:], steps, strides(turned[1:]))
        context.emit(Node(Transpose(tuple(perm)), name, (source,), output), turned)


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


def axis_of(context: Context, value: str, axis: int) -> int:
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
    if span == range(shape[axis]):
        context.emit(Node(Reshape(), name, (value,), output), shape)
        return
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    if not span:
        raise Unsupported(f"it takes nothing of {shown(shape)}")
    _spaced(context, name, value, axis, span.start, span.step, len(span), output)


def _spaced(
    context: Context,
    name: str,
    value: str,
    axis: int,
    first: int,
    step: int,
    count: int,
    output: str,
) -> None:
    """``count`` numbers along an axis from ``first`` on, any step apart."""
    shape = context.shape(value)
    outer, inner = math.prod(shape[1:axis]), math.prod(shape[axis + 1 :])
    strided(
        context,
        name,
        value,
        output,
        (*shape[:axis], count, *shape[axis + 1 :]),
        [outer, count, inner],
        [shape[axis] * inner, step * inner, 1],
        [count * inner, inner, 1],
        start=first * inner,
    )


def take(context: Context, name: str, value: str, axis: int, index: Array, output: str) -> None:
    """The numbers at any places along an axis.

    Copies of evenly spaced ones side by side, where these are few; else a linear map with a one in
    each row.
    """
    runs = _runs(index.tolist())
    if len(runs) > MOST_RUNS:
        size = context.shape(value)[axis]
        along_axes(context, name, value, output, [(axis, len(index), lambda: np.eye(size)[index])])
        return
    pieces = [f"{output} run {i}" for i in range(len(runs))] if len(runs) > 1 else [output]
    for piece, run in zip(pieces, runs, strict=True):
        _spaced(context, name, value, axis, *run, piece)
    if len(runs) > 1:
        shape = context.shape(value)
        joined = (*shape[:axis], len(index), *shape[axis + 1 :])
        context.emit(Node(Concat(axis), name, tuple(pieces), output), joined)


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


def drop(context: Context, name: str, value: str, axes: set[int], output: str) -> None:
    """The value without axes of size one."""
    shape = context.shape(value)
    if 0 in axes or any(shape[axis] != 1 for axis in axes):
        raise Unsupported(f"it squeezes axes {sorted(axes)} of {shown(shape)}")
    small = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    context.emit(Node(Reshape(), name, (value,), output), small)


def _embed(context: Context, name: str, table: Array, value: str, output: str) -> None:
    """Rows of a constant table by a value's integers."""
    if table.ndim != 2 or not table.size:
        raise Unsupported(f"it takes rows of a constant of shape {table.shape}; a matrix only")
    node = Node(Embed(), name, (value,), output, {"table": floats(table)})
    context.emit(node, (*context.shape(value), table.shape[1]), "f")


def _gather_elements(
    context: Context, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    """From a constant row that all examples share: an embedding of single numbers."""
    row, shape = context.constant(inputs[0], "data"), context.shape(inputs[1])
    if row.ndim != len(shape) or row.size != row.shape[-1]:
        raise Unsupported(f"it takes elements of a constant of shape {row.shape}; one row only")
    if axis_of(context, inputs[1], int(a.get("axis", 0))) != row.ndim - 1:
        raise Unsupported("it takes elements along another axis than the last")
    apart = f"{output} apart"
    _embed(context, name, numbers(row.reshape(-1, 1)), inputs[1], apart)
    context.emit(Node(Reshape(), name, (apart,), output), shape, context.kind(inputs[0]))


def gather(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    if context.is_constant(inputs[0]) and int(a.get("axis", 0)) == 0:
        _embed(context, name, context.array(inputs[0]), inputs[1], output)
        return
    index = context.constant(inputs[1], "index")
    axis = axis_of(context, inputs[0], int(a.get("axis", 0)))
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
    """The numbers at any places along an axis but the batch's."""
    shape = context.shape(value)
    if axis == 0:
        raise Unsupported("it takes a part of the batch")
    taken = output if index.ndim == 1 else f"{output} in a row"
    take(context, name, value, axis, index.ravel(), taken)
    if index.ndim > 1:
        whole = (*shape[:axis], *index.shape, *shape[axis + 1 :])
        context.emit(Node(Reshape(), name, (taken,), output), whole)


def _slice(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    starts, ends = (np.ravel(context.constant(i, "limits")).tolist() for i in inputs[1:3])
    more = [np.ravel(context.constant(i, "axes")).tolist() if i else None for i in inputs[3:5]]
    axes = more[0] if more and more[0] is not None else list(range(len(starts)))
    steps = more[1] if len(more) > 1 and more[1] is not None else [1] * len(starts)
    value = inputs[0]
    parts = list(zip(starts, ends, axes, steps, strict=True))
    for i, (start, end, which, step) in enumerate(parts):
        axis = axis_of(context, value, int(which))
        span = range(context.shape(value)[axis])[int(start) : int(end) : int(step)]
        result = output if i == len(parts) - 1 else f"{output} cut {i}"
        _part(context, name, value, axis, span, result)
        value = result


def _split(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    axis = axis_of(context, inputs[0], int(a.get("axis", 0)))
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


def _space_to_depth(
    context: Context, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    shape, r = context.shape(inputs[0]), int(a["blocksize"])
    if len(shape) != 4 or r < 1 or shape[2] % r or shape[3] % r:
        raise Unsupported(f"it makes blocks of {r} of {shown(shape)}")
    _, c, h, w = shape
    sizes, source = [r, r, c, h // r, w // r], [w, 1, h * w, r * w, r]
    if a.get("mode", "DCR") == "CRD":  # channels outermost
        sizes, source = [c, r, r, *sizes[3:]], [h * w, w, 1, *source[3:]]
    resized = (shape[0], c * r * r, h // r, w // r)
    strided(context, name, inputs[0], output, resized, sizes, source, strides(tuple(sizes)))


def _tile(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = context.shape(inputs[0])
    times = [int(n) for n in np.ravel(context.constant(inputs[1], "repeats"))]
    if len(times) != len(shape) or times[0] != 1 or min(times) < 1:
        raise Unsupported(f"it repeats {shown(shape)} {times} times; within an example only")
    steps, pairs = strides(shape[1:]), list(zip(times[1:], shape[1:], strict=True))
    sizes = [size for pair in pairs for size in pair]
    source = [step for own in steps for step in (0, own)]
    larger = (shape[0], *(by * n for by, n in pairs))
    strided(context, name, inputs[0], output, larger, sizes, source, strides(tuple(sizes)))


def _gather_turned(
    context: Context, convert: Convert, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    if not context.is_constant(inputs[0]):
        along(0)(context, convert, name, inputs, output, a)
        return
    batched, _ = in_front(context, name, inputs[1], output)  # an embedding
    front = f"{output} in front"
    convert(context, name, [inputs[0], batched.source], front, a)
    settle(context, name, BatchAxis(front, batched.axis, batched.after), output)


def _transpose_turned(
    context: Context, convert: Convert, name: str, inputs: list[str], output: str, a: Attributes
) -> None:
    batched, sizes = in_front(context, name, inputs[0], output)
    perm = permutation_of(context, inputs[0], a)
    lead, source = context.shape(batched.source)[0], batched.source
    wide = [p for p in range(len(sizes)) if sizes[p] != 1]
    order = [wide.index(p) + 1 for p in perm if p in wide]
    if order != sorted(order):
        narrow, turned = f"{output} narrow", f"{output} turned"
        context.emit(Node(Reshape(), name, (source,), narrow), (lead, *(sizes[p] for p in wide)))
        place(context, name, narrow, [0, *order], turned)
        source = turned
    front = f"{output} in front"
    context.emit(Node(Reshape(), name, (source,), front), (lead, *(sizes[p] for p in perm)))
    axis = batched.axis if batched.axis == NOWHERE else perm.index(batched.axis)
    settle(context, name, BatchAxis(front, axis, batched.after), output)


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
        raise Unsupported(f"it scatters by {a['reduction']!r}; by replacing only")
    result = x[0].copy()
    result[tuple(np.moveaxis(x[1], -1, 0))] = x[2]
    return result


def _scatter_elements(x: list[Array], a: Attributes) -> Array:
    if a.get("reduction", "none") != "none":
        raise Unsupported(f"it scatters by {a['reduction']!r}; by replacing only")
    axis = a.get("axis", 0) % x[0].ndim
    index = x[1].astype(np.int64)
    places = [np.arange(size).reshape([-1 if i == j else 1 for j in range(x[1].ndim)])
              for i, size in enumerate(x[1].shape)]  # fmt: skip
    places[axis] = index
    result = x[0].copy()
    result[tuple(places)] = x[2]
    return result


def _gathered(x: list[Array], a: Attributes) -> int:
    return int(x[1].size * (x[0].size // max(1, x[0].shape[a.get("axis", 0)])))


def _gathered_nd(x: list[Array], a: Attributes) -> int:
    depth = x[1].shape[-1]
    return math.prod((*x[1].shape[:-1], *x[0].shape[depth:]))


def _expanded(x: list[Array], a: Attributes) -> int:
    return max(math.prod(bounded(x[-1])), x[0].size)


def _expand_constant(x: list[Array], a: Attributes) -> Array:
    return np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, bounded(x[1]))).copy()


LAYOUT_OPS: Operators = {
    "Expand": Operator(_expand, _expand_constant, _expanded),
    "Transpose": Operator(
        _transpose,
        lambda x, a: np.transpose(x[0], a.get("perm")),
        shared="view",
        turned=_transpose_turned,
    ),
    "Gather": Operator(
        gather,
        lambda x, a: np.take(x[0], x[1].astype(np.int64), axis=a.get("axis", 0)),
        _gathered,
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
