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
    if call.optional(3):
        raise Unsupported("it pads chosen axes; export with pads for all of them")
    pads = context.integers(call.inputs[1], "pads")
    rank = len(shape)
    if len(pads) != 2 * rank or pads[0] or pads[rank] or not all(0 <= p < 1 << 16 for p in pads):
        raise Unsupported(f"it pads {shown(shape)} by {pads}")
    if not zeros and any(pads):
        image, axes = call.value, [i for i in range(rank) if pads[i] or pads[i + rank]]
        for i in axes:
            places = repeated(shape[i], pads[i], pads[i + rank], mode)
            image = take(context, image, i, places, call.output if i == axes[-1] else "")
        return
    padded = tuple(n + pads[i] + pads[i + rank] for i, n in enumerate(shape))
    target = strides(padded[1:])
    at = sum(p * step for p, step in zip(pads[1:rank], target, strict=True))
    sizes, framed = list(shape[1:]), np.any(border != 0)
    output = "" if framed else call.output
    alone = strided(
        context, call.value, output, padded, sizes, strides(shape[1:]), target, at=at, clear=True
    )
    if framed:  # -0 changes no sum
        context.spend(math.prod(padded[1:]))
        frame = np.full(padded[1:], border.reshape(()))
        frame[tuple(slice(p, p + n) for p, n in zip(pads[1:rank], sizes, strict=True))] = -0.0
        constant_binary(context, "add", alone, frame, call.output)


def _pad_in_front(context: Context, convert: Convert, call: Call) -> None:
    rank = len(context.shape(call.value))
    fronts, way = fronts_of(context, [call.value], call.output, rank)
    pads = context.integers(call.inputs[1], "pads")
    if way.axis != NOWHERE and any(pads[way.axis :: rank]):
        raise Unsupported("it pads the batch axis")
    shifted = f"{call.output} pads"
    context.add_constant(shifted, np.array([0, *pads[:rank], 0, *pads[rank:]], np.int64))
    convert_in_front(context, convert, call, [*fronts, shifted, *call.inputs[2:]], way)


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
