"""Dense convolutions of three taps by minimal filtering, see ``kernels/winograd.h``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from gossamer.kernels._kernels import MOST_WINOGRAD_TILES
from gossamer.kernels.registry import Kernel, find, typed
from gossamer.runtime.constants import nonzeros
from gossamer.runtime.graph import Array, Candidate
from gossamer.runtime.lowering.convolution import Convolution
from gossamer.runtime.lowering.dense import columns_of
from gossamer.runtime.lowering.layouts import L2
from gossamer.runtime.packing import padded, panels, up_to
from gossamer.runtime.program import Buffer

ROWS = 24  # a multiple of the tiles that meet a vector of weights at once
FEWEST_TILES = 32  # of 4 x 4 outputs, that are worth four times the numbers of the weight
TAPS = 3


def interpolation(points: Sequence[float]) -> Array:
    """Return the matrix of a polynomial of three coefficients: its values at points and infinity.

    Each is divided by the product of the point's distances to the others (Lagrange).
    """
    rows = [
        [p**i / math.prod(p - q for q in points if q != p) for i in range(TAPS)] for p in points
    ]
    return np.array([*rows, [0, 0, 1]])


# Outputs of a tile's side -> what a weight's taps become along it.
FILTERS = {2: interpolation([0, 1, -1]), 4: interpolation([0, 0.75, -0.75, 1.5, -1.5])}


def winograd_candidates(conv: Convolution) -> Iterator[Candidate]:
    """Yield the kernels for the size of the window, unless most products would be zero."""
    lowering, weight, s = conv.lowering, conv.weight, conv.settings
    if s.groups > 1 or s.strides != (1, 1):
        return
    outputs, channels, high, wide = weight.shape
    # A window as high as the image: its rows are as good as channels.
    whole = high == conv.size[1] > 1 and not s.pads[0] + s.pads[2]
    if whole:
        channels, high = channels * high, 1
    worth = min(channels, outputs) >= 16 and 2 * nonzeros(weight) > weight.size
    if not (worth or lowering.every):
        return
    sides = list(zip(conv.out, (high, wide), s.dilations, strict=True))
    for kernel in find(lowering.isa, typed("winograd", weight)):
        taps, several = kernel.layout.split("/")
        tiles = math.prod(tiles_of(*side, int(several)) for side in sides)
        enough = several == "2" or tiles >= FEWEST_TILES or lowering.every
        if taps == f"{high}x{wide}" and enough:
            yield Candidate(str(kernel), partial(winograd, conv, kernel, whole))


def filtered(weight: Array, several: int) -> Array:
    """Return the weights [outputs, channels, y, x] of each product [y * x, outputs, channels]."""
    weight = weight.astype(np.float64)
    for axis in (2, 3):
        if weight.shape[axis] == TAPS:
            weight = np.moveaxis(np.tensordot(weight, FILTERS[several], (axis, 1)), -1, axis)
    products: Array = weight.astype(np.float32).transpose(2, 3, 0, 1)
    return products.reshape(-1, *weight.shape[:2])


def columns(conv: Convolution) -> Buffer:
    """Return an image as one row of pixels, whose channels are those of a column, row by row."""
    form, lowering, value = "columns", conv.lowering, conv.value
    if form not in value.forms:
        plain, (c, h, w) = lowering.layout(value), conv.size
        source, target = lowering.form(value, plain), lowering.new(value, form, value.item)
        from_ = [c, w * c, 1] if plain == "last" else [1, w, h * w]
        lowering.copy(source, target, value.items, [w, h, c], from_, [h * c, c, 1])
    return value.forms[form]


def tiles_of(size: int, taps: int, dilation: int, several: int) -> int:
    """Return the number of tiles along an axis: of several outputs, ``dilation`` apart."""
    if taps != TAPS:
        return size
    whole = size // (several * dilation) * dilation
    return whole + min(dilation, size - several * whole)


def winograd(conv: Convolution, kernel: Kernel, whole: bool) -> None:
    lowering, weight, (channels, in_height, _) = conv.lowering, conv.weight, conv.size
    if whole:
        source = columns(conv)
        weight = weight.transpose(0, 2, 1, 3).reshape(len(weight), -1, 1, weight.shape[3])
        channels, in_height = weight.shape[1], 1
    else:
        source = lowering.form(conv.value, "last")
    panel = columns_of(lowering, kernel)
    several = int(kernel.layout.split("/")[1])
    products = filtered(weight, several)
    fit = L2 * 3 // 4 // (4 * len(products) * channels) // ROWS * ROWS
    tiles = max(ROWS, min(fit, MOST_WINOGRAD_TILES))
    zeros = max(up_to(channels, lowering.width), panel)
    target, after = conv.output("last")
    sides = zip(conv.out, weight.shape[2:], conv.settings.dilations, strict=True)
    count = math.prod(tiles_of(*side, several) for side in sides)
    conv.add(
        kernel,
        source,
        target,
        {"channels": channels, "in_height": in_height, "tiles": tiles, "zeros": zeros},
        [
            np.stack([panels(product, panel) for product in products]),
            padded(conv.bias, up_to(len(weight), panel)),
            conv.clip,
        ],
        float(conv.value.items * products.size * count),
        scratch=zeros + len(products) * (tiles * (channels + panel) + 2 * lowering.width),
    )
    after()
