"""Dense convolutions of three taps by minimal filtering, see ``kernels/winograd.h``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.registry import Kernel, find, typed
from gossamer.runtime.constants import nonzeros
from gossamer.runtime.graph import Array, Candidate, Node
from gossamer.runtime.lowering.dense import after_conv, conv_size, dense_macs
from gossamer.runtime.lowering.layouts import L2, Lowering, Value
from gossamer.runtime.packing import limits, padded, panels, up_to
from gossamer.runtime.program import Buffer

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv

ROWS = 24  # a multiple of the tiles that meet a vector of weights at once
MOST_TILES = 96  # that the kernel takes at once
# What a weight's taps become along one axis.
FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def winograd_candidates(
    lowering: Lowering, node: Node[Conv], value: Value, size: tuple[int, int, int]
) -> Iterator[Candidate]:
    """Yield the kernels for the size of the window, unless most products would be zero."""
    weight, s = node.constants["weight"], node.operation
    if s.groups > 1 or s.strides != (1, 1):
        return
    outputs, channels, high, wide = weight.shape
    # A window as high as the image: its rows are as good as channels.
    whole = high == size[1] > 1 and not s.pads[0] + s.pads[2]
    if whole:
        channels, high = channels * high, 1
    worth = min(channels, outputs) >= 16 and 2 * nonzeros(weight) > weight.size
    if worth or lowering.every:
        for kernel in find(lowering.isa, typed("winograd", weight), f"{high}x{wide}"):
            emit = partial(winograd, lowering, node, kernel, value, size, whole)
            yield Candidate(str(kernel), emit)


def filtered(weight: Array) -> Array:
    """Return the weights [outputs, channels, y, x] of each product [y * x, outputs, channels]."""
    weight = weight.astype(np.float64)
    for axis in (2, 3):
        if weight.shape[axis] == len(FILTER.T):
            weight = np.moveaxis(np.tensordot(weight, FILTER, (axis, 1)), -1, axis)
    products: Array = weight.astype(np.float32).transpose(2, 3, 0, 1)
    return products.reshape(-1, *weight.shape[:2])


def columns(lowering: Lowering, value: Value, size: tuple[int, int, int]) -> Buffer:
    """Return an image as one row of pixels, whose channels are those of a column, row by row."""
    form = "columns"
    if form not in value.forms:
        plain, (c, h, w) = lowering.layout(value), size
        source, target = lowering.form(value, plain), lowering.new(value, form, value.item)
        from_ = [c, w * c, 1] if plain == "last" else [1, w, h * w]
        lowering.copy(source, target, value.items, [w, h, c], from_, [h * c, c, 1])
    return value.forms[form]


def tiles_of(size: int, taps: int, dilation: int) -> int:
    """Return the number of tiles along an axis: of two outputs, ``dilation`` apart."""
    if taps != len(FILTER.T):
        return size
    whole = size // (2 * dilation) * dilation
    return whole + min(dilation, size - 2 * whole)


def winograd(
    lowering: Lowering,
    node: Node[Conv],
    kernel: Kernel,
    value: Value,
    size: tuple[int, int, int],
    whole: bool,
) -> None:
    weight, s = node.constants["weight"], node.operation
    (channels, in_height, in_width), outputs = size, len(weight)
    high, wide = conv_size(lowering, node)
    if whole:
        source = columns(lowering, value, size)
        weight = weight.transpose(0, 2, 1, 3).reshape(outputs, -1, 1, weight.shape[3])
        channels, in_height = weight.shape[1], 1
    else:
        source = lowering.form(value, "last")
    panel = int(kernel.tile) * lowering.width
    products = filtered(weight)
    fit = L2 * 3 // 4 // (4 * len(products) * channels) // ROWS * ROWS
    tiles = max(ROWS, min(fit, MOST_TILES))
    zeros = max(up_to(channels, lowering.width), panel)
    target, after = after_conv(lowering, node, "last", False)
    sides = zip((high, wide), weight.shape[2:], s.dilations, strict=True)
    lowering.add(
        node.name,
        kernel,
        (source,),
        target,
        {
            "channels": channels,
            "in_height": in_height,
            "in_width": in_width,
            "outputs": outputs,
            "height": high,
            "width": wide,
            "dilation_height": s.dilations[0],
            "dilation_width": s.dilations[1],
            "top": s.pads[0],
            "left": s.pads[1],
            "tiles": tiles,
            "zeros": zeros,
        },
        data=[
            np.stack([panels(product, panel) for product in products]),
            padded(node.constants["bias"], up_to(outputs, panel)),
            limits(s.low, s.high),
        ],
        scratch=zeros + len(products) * (tiles * (channels + panel) + 2 * lowering.width),
        items=value.items,
        macs=float(value.items * products.size * math.prod(tiles_of(*side) for side in sides)),
        dense_macs=dense_macs(lowering, node) * value.items,
    )
    after()
