"""Padding, resizing, running sums: copies by strides where numbers repeat alike, else linear maps.

A map along each axis mixes its numbers, or repeats them unevenly. As layers the maps need no
kernels of their own; few of their weights are not zero.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from gossamer.runtime.graph import Array, strides
from gossamer.runtime.importer.context import (
    Attributes,
    Context,
    Convert,
    Unsupported,
    numbers,
    shown,
)
from gossamer.runtime.importer.operators.binary import constant_binary
from gossamer.runtime.importer.operators.layout_ops import Maps, along_axes, strided
from gossamer.runtime.importer.resize_matrix import alike, repeated, resized, scales_of


def _pad(context: Context, name: str, inputs: list[str], output: str, a: Attributes) -> None:
    shape, mode = context.shape(inputs[0]), a.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Unsupported(f"it pads by {mode!r}; zeros, reflect, edge and wrap can run")
    zeros = mode == "constant"
    given = context.constant(inputs[2], "value") if len(inputs) > 2 and inputs[2] else np.zeros(())
    border = numbers(given) if zeros and np.any(given != 0) else None
    if len(inputs) > 3 and inputs[3]:
        raise Unsupported("it pads chosen axes; export with pads for all of them")
    pads = [int(p) for p in np.ravel(context.constant(inputs[1], "pads"))]
    rank = len(shape)
    if len(pads) != 2 * rank or pads[0] or pads[rank] or not all(0 <= p < 1 << 16 for p in pads):
        raise Unsupported(f"it pads {shown(shape)} by {pads}")
    if not zeros and any(pads):
        sides = [(i, pads[i], pads[i + rank]) for i in range(rank) if pads[i] or pads[i + rank]]
        maps: Maps = [
            (i, shape[i] + before + after, partial(repeated, shape[i], before, after, mode))
            for i, before, after in sides
        ]
        along_axes(context, name, inputs[0], output, maps)
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


RESIZING: dict[str, Convert] = {"CumSum": _cum_sum, "Pad": _pad, "Resize": _resize}
