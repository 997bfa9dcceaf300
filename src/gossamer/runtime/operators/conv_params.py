"""Kernel sizes, strides, dilations and pads of convolutions and pools."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gossamer.runtime.graph import Shape
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, shown
from gossamer.runtime.operators.unsupported import Unsupported


def pair(values: Any, count: int) -> list[int]:
    """Return (height, width) of a 1-d or 2-d setting, which is 1 by default."""
    numbers = list(values) if values else [1] * count
    if len(numbers) != count:
        raise Unsupported(f"it has {len(numbers)} window settings for {count} dimensions")
    return [1] * (2 - count) + [int(v) for v in numbers]


def window(
    call: Call, image: Shape, kernel: list[int], dims: int
) -> tuple[list[int], list[int], list[int]]:
    """Return strides, dilations and pads (top, left, bottom, right) of a call."""
    strides = pair(call.get("strides"), dims)
    dilations = pair(call.get("dilations"), dims)
    if any(not 1 <= v <= 1 << 16 for v in [*strides, *dilations, *kernel]):
        raise Unsupported("its window, strides and dilations must be between 1 and 65536")
    auto = call.get("auto_pad", "NOTSET")
    if auto in ("NOTSET", "VALID"):
        sides = list(call.get("pads") or [0] * (2 * dims)) if auto == "NOTSET" else [0] * (2 * dims)
        if len(sides) != 2 * dims:
            raise Unsupported(f"it has {len(sides)} pads for {dims} dimensions")
        before, after = sides[:dims], sides[dims:]
        pads = [*([0] * (2 - dims)), *before, *([0] * (2 - dims)), *after]
    else:
        pads = [0] * 4
        for i in range(2):
            out = -(-image[i] // strides[i])
            reach = dilations[i] * (kernel[i] - 1) + 1
            total = max(0, (out - 1) * strides[i] + reach - image[i])
            pads[i] = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[i + 2] = total - pads[i]
    if any(not 0 <= p <= 1 << 16 for p in pads):
        raise Unsupported("its pads must be between 0 and 65536")
    return strides, dilations, pads


def by_depth(call: Call) -> tuple[Call, Call]:
    """Return a 3-d call for the depth, as images of one column, and for height and width."""
    depth, image = dict(call.attributes), dict(call.attributes)
    for name, none in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 0)):
        values, sides = list(call.get(name) or []), 2 if name == "pads" else 1
        if values and len(values) != 3 * sides:
            raise Unsupported(f"it has {len(values)} {name} for 3 dimensions")
        if values:
            depth[name] = [v for first in values[::3] for v in (first, none)]
            image[name] = [v for i, v in enumerate(values) if i % 3]
    return replace(call, attributes=depth), replace(call, attributes=image)


def image_of(context: Context, value: str) -> tuple[Shape, int]:
    """Return [batch, channels, height, width] of a value and its number of spatial dimensions."""
    shape = context.shape(value)
    if len(shape) == 3:
        return (shape[0], shape[1], 1, shape[2]), 1
    if len(shape) != 4:
        raise Unsupported(f"its input has shape {shown(shape)}; 1-d and 2-d images only")
    return shape, 2


def flat(shape: Shape, dims: int) -> Shape:
    """Return a shape of ``image_of`` with ``dims`` spatial dimensions again."""
    return shape if dims == 2 else (shape[0], shape[1], shape[3])
