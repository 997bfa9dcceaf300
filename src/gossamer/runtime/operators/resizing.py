"""Padding, resizing and cumulative sums.

They become strided copies where every number is repeated equally often, else one linear layer for
each axis. Such layers have few non-zero weights and need no kernels of their own.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from gossamer.runtime.graph import Array, strides
from gossamer.runtime.operators.axis import Maps, along_axes
from gossamer.runtime.operators.batch_axis import NOWHERE, convert_in_front, fronts_of
from gossamer.runtime.operators.binary import constant_binary
from gossamer.runtime.operators.call import Attributes, Call
from gossamer.runtime.operators.context import Context, numbers, shown
from gossamer.runtime.operators.folding import bounded
from gossamer.runtime.operators.gather import take
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.resize_matrix import alike, repeated, resized, scales_of
from gossamer.runtime.operators.strided import strided
from gossamer.runtime.operators.unsupported import Unsupported


def _pad(context: Context, call: Call) -> None:
    shape, mode = context.shape(call.value), call.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unsupported(f"it pads by {mode!r}; zeros, reflect, edge and wrap can run")
    zeros, named = mode == "constant", call.optional(2)
    border = numbers(context.constant(named, "value")) if named and zeros else np.zeros(())
    pads, rank = _pads(context, call, len(shape)), len(shape)
    if pads[0] or pads[rank]:
        raise Unsupported(f"it pads {shown(shape)} by {pads}: the batch, too")
    if not all(-1 << 16 < p < 1 << 16 for p in pads):
        raise Unsupported(f"it pads {shown(shape)} by {pads}: by 65535 at most")
    if not zeros and min(pads) < 0:
        raise Unsupported(f"it pads by {mode!r} and crops: {pads}; only constants can do both")
    if not zeros and any(pads):
        image, axes = call.value, [i for i in range(rank) if pads[i] or pads[i + rank]]
        for i in axes:
            places = repeated(shape[i], pads[i], pads[i + rank], mode)
            image = take(context, image, i, places, call.output if i == axes[-1] else "")
        return
    padded = tuple(n + pads[i] + pads[i + rank] for i, n in enumerate(shape))
    sizes = [n + min(0, pads[i]) + min(0, pads[i + rank]) for i, n in enumerate(shape)][1:]
    if min(sizes) < 1:
        raise Unsupported(f"it crops {shown(shape)} by {pads}: nothing is left")
    source, target, before = strides(shape[1:]), strides(padded[1:]), pads[1:rank]
    start = sum(max(0, -p) * step for p, step in zip(before, source, strict=True))
    at = sum(max(0, p) * step for p, step in zip(before, target, strict=True))
    framed = np.any(border != 0)
    output = "" if framed else call.output
    alone = strided(
        context, call.value, output, padded, sizes, source, target, start=start, at=at, clear=True
    )
    if framed:  # -0 changes no sum
        context.spend(math.prod(padded[1:]))
        frame = np.full(padded[1:], border.reshape(()))
        inside = (slice(max(0, p), max(0, p) + n) for p, n in zip(before, sizes, strict=True))
        frame[tuple(inside)] = -0.0
        constant_binary(context, "add", alone, frame, call.output)


def _pads(context: Context, call: Call, rank: int) -> list[int]:
    """Return the pads before and behind each axis; a call may name only some axes."""
    values = context.integers(call.inputs[1], "pads")
    axes = context.integers(named, "axes") if (named := call.optional(3)) else [*range(rank)]
    if len(values) != 2 * len(axes) or not all(-rank <= axis < rank for axis in axes):
        raise Unsupported(f"it has the pads {values} for the axes {axes} of {rank}")
    pads = [0] * (2 * rank)
    for i, axis in enumerate(axes):
        pads[axis % rank], pads[axis % rank + rank] = values[i], values[i + len(axes)]
    return pads


def _pad_in_front(context: Context, convert: Convert, call: Call) -> None:
    rank = len(context.shape(call.value))
    fronts, way = fronts_of(context, [call.value], call.output, rank)
    pads = _pads(context, call, rank)
    if way.axis != NOWHERE and any(pads[way.axis :: rank]):
        raise Unsupported("it pads the batch axis")
    shifted = f"{call.output} pads"
    context.add_constant(shifted, np.array([0, *pads[:rank], 0, *pads[rank:]], np.int64))
    convert_in_front(context, convert, call, [*fronts, shifted, *call.inputs[2:3]], way)


def _resize(context: Context, call: Call) -> None:
    shape, a = context.shape(call.value), call.attributes
    scales, sizes = scales_of(shape, context.constant(call.inputs[-1], "sizes or scales"), a)
    if len(shape) not in (3, 4) or scales[:2] != [1, 1]:
        raise Unsupported(f"it resizes {shown(shape)} by {scales}; images only, in all their axes")
    times = [round(s) for s in scales]
    whole = all(1 <= t <= 64 and t == s for t, s in zip(times, scales, strict=True))
    if (
        whole
        and a.get("mode", "nearest") == "nearest"
        and all(alike(n, t, a) for n, t in zip(shape[2:], times[2:], strict=True))
    ):
        _repeat(context, call.value, call.output, times[2:])
        return
    maps: Maps = [
        (i, sizes[i], partial(resized, shape[i], sizes[i], scales[i], a))
        for i in range(2, len(shape))
        if scales[i] != 1
    ]
    maps = maps or [(2, shape[2], partial(np.eye, shape[2]))]
    along_axes(context, call.value, call.output, maps)


def _repeat(context: Context, value: str, output: str, times: list[int]) -> None:
    shape = context.shape(value)
    _, c, h, w = shape if len(shape) == 4 else (*shape[:2], 1, shape[2])
    down, across = times if len(shape) == 4 else (1, times[0])
    larger = (*shape[:2], *(n * t for n, t in zip(shape[2:], times, strict=True)))
    strided(context, value, output, larger, [c, h, down, w, across], [h * w, w, 0, 1, 0])


def _cum_sum(context: Context, call: Call) -> None:
    shape, axis = context.shape(call.value), int(context.constant(call.inputs[1], "axis").item())
    axis = axis + len(shape) if axis < 0 else axis
    if not 1 <= axis < len(shape):
        raise Unsupported(f"it adds up axis {axis} of {shown(shape)}; within an example only")

    def make() -> Array:
        earlier = np.tri(shape[axis], k=-1 if call.get("exclusive") else 0)
        return earlier.T if call.get("reverse") else earlier

    along_axes(context, call.value, call.output, [(axis, shape[axis], make)])


def _resize_constant(x: list[Array], a: Attributes) -> Array:
    """Fold Resize: multiply along each axis by its matrix."""
    data, (scales, sizes) = x[0], scales_of(x[0].shape, x[-1], a)
    for axis, (scale, size) in enumerate(zip(scales, sizes, strict=True)):
        if scale != 1:
            along = np.moveaxis(data, axis, -1)
            data = np.moveaxis(along @ resized(data.shape[axis], size, scale, a).T, -1, axis)
    return data.astype(x[0].dtype)


def _sums(x: list[Array], a: Attributes) -> Array:
    axis = int(x[1].item())
    values = np.flip(x[0], axis) if a.get("reverse") else x[0]
    sums = np.cumsum(values, axis, dtype=x[0].dtype)
    if a.get("exclusive"):
        sums = np.roll(sums, 1, axis)
        np.moveaxis(sums, axis, 0)[0] = 0
    return np.flip(sums, axis) if a.get("reverse") else sums


def _resized(x: list[Array], a: Attributes) -> int:
    sizes = bounded(scales_of(x[0].shape, x[-1], a)[1])
    pairs = list(zip(sizes, x[0].shape, strict=True))
    return max(math.prod(int(max(pair)) for pair in pairs), sum(n * int(m) for n, m in pairs))


RESIZING: Operators = {
    "CumSum": Operator(_cum_sum, _sums),
    "Pad": Operator(_pad, turned=_pad_in_front),
    "Resize": Operator(_resize, _resize_constant, _resized, "joins"),
}
