"""Padding, resizing, running sums: copies by strides where numbers repeat alike, else linear maps.

A map along each axis mixes its numbers, or repeats them unevenly. As layers the maps need no
kernels of their own; few of their weights are not zero.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from gossamer.runtime.graph import Array, strides
from gossamer.runtime.operators.binary import constant_binary
from gossamer.runtime.operators.context import Attributes, Context, Unsupported, numbers, shown
from gossamer.runtime.operators.folding import bounded
from gossamer.runtime.operators.layout_ops import Maps, along_axes, strided, take
from gossamer.runtime.operators.operator import Operator, Operators
from gossamer.runtime.operators.resize_matrix import alike, repeated, resized, scales_of


def _pad(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape, mode = context.shape(inputs[0]), a.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unsupported(f"it pads by {mode!r}; zeros, reflect, edge and wrap can run")
    zeros = mode == "constant"
    value = context.constant(inputs[2], "value") if len(inputs) > 2 and inputs[2] else np.zeros(())
    border = numbers(value) if zeros and np.any(value != 0) else None
    if len(inputs) > 3 and inputs[3]:
        raise Unsupported("it pads chosen axes; export with pads for all of them")
    pads = [int(p) for p in np.ravel(context.constant(inputs[1], "pads"))]
    rank = len(shape)
    if len(pads) != 2 * rank or pads[0] or pads[rank] or not all(0 <= p < 1 << 16 for p in pads):
        raise Unsupported(f"it pads {shown(shape)} by {pads}")
    if not zeros and any(pads):
        image, axes = inputs[0], [i for i in range(rank) if pads[i] or pads[i + rank]]
        for i in axes:
            result = output if i == axes[-1] else f"{output} along {i}"
            take(context, name, image, i, repeated(shape[i], pads[i], pads[i + rank], mode), result)
            image = result
        return
    padded = tuple(n + pads[i] + pads[i + rank] for i, n in enumerate(shape))
    target = strides(padded[1:])
    at = sum(p * step for p, step in zip(pads[1:rank], target, strict=True))
    sizes = list(shape[1:])
    source = strides(shape[1:])
    alone = output if border is None else f"{output} alone"
    strided(context, name, inputs[0], alone, padded, sizes, source, target, at=at, clear=True)
    if border is not None:  # -0 changes no sum
        context.spend(math.prod(padded[1:]))
        frame = np.full(padded[1:], border.reshape(()))
        frame[tuple(slice(p, p + n) for p, n in zip(pads[1:rank], sizes, strict=True))] = -0.0
        constant_binary(context, "add", name, alone, output, frame)


def _resize(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape = context.shape(inputs[0])
    scales, sizes = scales_of(shape, context.constant(inputs[-1], "sizes or scales"), a)
    if len(shape) not in (3, 4) or scales[:2] != [1, 1]:
        raise Unsupported(f"it resizes {shown(shape)} by {scales}; images only, in all their axes")
    times = [round(s) for s in scales]
    whole = all(1 <= t <= 64 and t == s for t, s in zip(times, scales, strict=True))
    if (
        whole
        and a.get("mode", "nearest") == "nearest"
        and all(alike(n, t, a) for n, t in zip(shape[2:], times[2:], strict=True))
    ):
        _repeat(context, name, inputs[0], output, times[2:])
        return
    maps: Maps = [
        (i, sizes[i], partial(resized, shape[i], sizes[i], scales[i], a))
        for i in range(2, len(shape))
        if scales[i] != 1
    ]
    along_axes(context, name, inputs[0], output, maps or [(2, shape[2], partial(np.eye, shape[2]))])


def _repeat(context: Context, name: str, value: str, output: str, times: list[int]) -> None:
    shape = context.shape(value)
    _, c, h, w = shape if len(shape) == 4 else (*shape[:2], 1, shape[2])
    down, across = times if len(shape) == 4 else (1, times[0])
    larger = (*shape[:2], *(n * t for n, t in zip(shape[2:], times, strict=True)))
    sizes = [c, h, down, w, across]
    strided(context, name, value, output, larger, sizes, [h * w, w, 0, 1, 0], strides(tuple(sizes)))


def _cum_sum(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape, axis = context.shape(inputs[0]), int(context.constant(inputs[1], "axis").item())
    axis = axis + len(shape) if axis < 0 else axis
    if not 1 <= axis < len(shape):
        raise Unsupported(f"it adds up axis {axis} of {shown(shape)}; within an example only")

    def make() -> Array:
        earlier = np.tri(shape[axis], k=-1 if a.get("exclusive") else 0)
        return earlier.T if a.get("reverse") else earlier

    along_axes(context, name, inputs[0], output, [(axis, shape[axis], make)])


def _resize_constant(x: list[Array], a: Attributes) -> Array:
    """One axis after the other, each times the matrix of its map."""
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
        sums -= values
    return np.flip(sums, axis) if a.get("reverse") else sums


def _resized(x: list[Array], a: Attributes) -> int:
    sizes = bounded(scales_of(x[0].shape, x[-1], a)[1])
    pairs = list(zip(sizes, x[0].shape, strict=True))
    return max(math.prod(int(max(pair)) for pair in pairs), sum(n * int(m) for n, m in pairs))


RESIZING: Operators = {
    "CumSum": Operator(_cum_sum, _sums),
    "Pad": Operator(_pad),
    "Resize": Operator(_resize, _resize_constant, _resized, "joins"),
}
