"""Dense convolutions of three taps by minimal filtering, see ``kernels/winograd.h``."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv

ROWS = 12  # tiles that meet a vector of weights at once
MOST_TILES = 8 * ROWS
# What a weight's taps become along one axis.
FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def winograd_candidates(
    lowering: Lowering, node: Node[Conv], value: Value, size: tuple[int, int, int]
) -> Iterator[Candidate]:
    """Yield the kernels for the size of the window, unless most products would be zero."""
    weight, s = node.constants["weight"], node.operation
    outputs, channels, high, wide = weight.shape
    if s.groups > 1 or {*s.strides, *s.dilations} != {1}:
        return
    worth = min(channels, outputs) >= 16 and 2 * nonzeros(weight) > weight.size
    if worth or lowering.every:
        for kernel in find(lowering.isa, typed("winograd", weight), f"{high}x{wide}"):
            yield Candidate(str(kernel), partial(winograd, lowering, node, kernel, value, size))


def filtered(weight: Array) -> Array:
    """Return the weights [outputs, channels, y, x] of each product [y * x, outputs, channels]."""
    weight = weight.astype(np.float64)
    for axis in (2, 3):
        if weight.shape[axis] == len(FILTER.T):
            weight = np.moveaxis(np.tensordot(weight, FILTER, (axis, 1)), -1, axis)
    products: Array = weight.astype(np.float32).transpose(2, 3, 0, 1)
    return products.reshape(-1, *weight.shape[:2])


def winograd(
    lowering: Lowering, node: Node[Conv], kernel: Kernel, value: Value, size: tuple[int, int, int]
) -> None:
    weight, s = node.constants["weight"], node.operation
    (channels, in_height, in_width), outputs = size, len(weight)
    high, wide = conv_size(lowering, node)
    columns = int(kernel.tile) * lowering.width
    products = filtered(weight)
    tall, broad = (
        -(-n // (2 if taps == 3 else 1))
        for n, taps in zip((high, wide), weight.shape[2:], strict=True)
    )
    fit = L2 * 3 // 4 // (4 * len(products) * channels) // ROWS * ROWS
    tiles = max(2 * ROWS, min(fit, MOST_TILES))
    zeros = max(up_to(channels, lowering.width), columns)
    source = lowering.form(value, "last")
    target, after = after_conv(lowering, node, "last", False)
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
            "top": s.pads[0],
            "left": s.pads[1],
            "tiles": tiles,
            "zeros": zeros,
        },
        data=[
            np.stack([panels(product, columns) for product in products]),
            padded(node.constants["bias"], up_to(outputs, columns)),
            limits(s.low, s.high),
        ],
        scratch=zeros + len(products) * (tiles * (channels + columns) + 2 * lowering.width),
        items=value.items,
        macs=float(value.items * tall * broad * products.size),
        dense_macs=dense_macs(lowering, node) * value.items,
    )
    after()
