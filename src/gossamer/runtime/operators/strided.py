"""Copies by strides within an example, and the operators that are one such copy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.c.loops import moved
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Shape, Single, merged, repeating, strides
from gossamer.runtime.lowering.layouts import Lowering, Value
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context, shown
from gossamer.runtime.operators.folding import bounded
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.unsupported import Unsupported


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
        last = self._channels_last(value, result) if lowering.layout(value) == "last" else None
        form, loops = ("last", last) if last else ("dense", self)
        lowering.copy(
            lowering.form(value, form),
            lowering.new(result, form, result.item),
            value.items,
            loops.sizes,
            loops.source,
            loops.target,
            start=loops.start,
            at=loops.at,
            clear=result.item if self.clear else 0,
            pixels=value.pixels if form == "dense" and len(value.shape) == 4 else 0,
        )

    def _channels_last(self, value: Value, result: Value) -> Strided | None:
        """Return the same copy between values whose channels lie last, None if it is none."""
        source = _channels_last(self.sizes, self.source, self.start, value)
        target = _channels_last(self.sizes, self.target, self.at, result)
        if source is None or target is None:
            return None
        loops = sorted(zip(target[0], source[0], self.sizes, strict=True), reverse=True)
        to, from_, sizes = zip(*loops, strict=True) if loops else ((), (), ())
        if len(merged(sizes, from_, to)[0]) > 5:
            return None
        return Strided(sizes, from_, to, source[1], target[1], self.clear)

    def write(self, writer: Writer, node: AnyNode) -> None:
        moved(writer, node, self.sizes, self.source, self.target,
               start=self.start, at=self.at, clear=self.clear)  # fmt: skip


def _channels_last(
    sizes: Sequence[int], steps: Sequence[int], start: int, value: Value
) -> tuple[list[int], int] | None:
    """Return strides and start where channels lie last, None unless loops end within a channel."""
    pixels = value.pixels
    within = [(n - 1) * s for n, s in zip(sizes, steps, strict=True) if s % pixels]
    lowest = start % pixels + sum(reach for reach in within if reach < 0)
    highest = start % pixels + sum(reach for reach in within if reach > 0)
    if lowest < 0 or highest >= pixels:
        return None
    turned = [s * value.channels if s % pixels else s // pixels for s in steps]
    return turned, start // pixels + start % pixels * value.channels


@dataclass(frozen=True)
class Windows(Strided):
    """A copy of a layer's outputs, of which each channel has those of one window.

    They are ordered by ``groups`` of channels, then by their ``within`` places in the window, then
    by channel.
    """

    groups: int = 1
    within: int = 1

    def repeat(self, each: Array) -> Array:
        """Return what there is for each channel for each of the layer's outputs."""
        grouped = each.reshape(self.groups, 1, -1, *each.shape[1:])
        return np.repeat(grouped, self.within, axis=1).reshape(-1, *each.shape[1:])


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

    The copies are contiguous if ``target`` is None. Returns the result's name.
    """
    target = strides(tuple(sizes)) if target is None else target
    check_loops(sizes, source, target)
    operation = Strided(tuple(sizes), tuple(source), tuple(target), start, at, clear)
    return context.emit(operation, value, output, shape)


def check_loops(sizes: Sequence[int], source: list[int], target: list[int]) -> None:
    """Raise if a copy needs more nested loops than the kernel has."""
    if len(merged(sizes, source, target)[0]) > 5:
        raise Unsupported("it moves more than five dimensions that are not adjacent in memory")


def _expand(context: Context, call: Call) -> None:
    sizes = context.integers(call.inputs[1], "shape")
    shape = np.broadcast_shapes(context.shape(call.value), tuple(sizes))
    expand(context, call.value, shape, call.output)


def expand(context: Context, value: str, shape: Shape, output: str = "") -> str:
    """Repeat a value along dimensions of size one; return the result's name."""
    own = context.shape(value)
    if len(own) != len(shape) or own[0] != shape[0]:
        raise Unsupported(f"it repeats {shown(own)} to {shown(shape)}; within an example only")
    return strided(context, value, output, shape, list(shape[1:]), repeating(own[1:], shape[1:]))


def _expand_constant(x: list[Array], a: Attributes) -> Array:
    return np.broadcast_to(x[0], np.broadcast_shapes(x[0].shape, bounded(x[1]))).copy()


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


STRIDED: Operators = {
    "Expand": Operator(
        _expand, _expand_constant, lambda x, a: max(math.prod(bounded(x[-1])), x[0].size)
    ),
    "DepthToSpace": Operator(_depth_to_space),
    "SpaceToDepth": Operator(_space_to_depth),
    "Tile": Operator(
        _tile,
        fold=lambda x, a: np.tile(x[0], bounded(x[1])),
        size=lambda x, a: x[0].size * math.prod(bounded(x[1])),
        shared="joins",
    ),
}
