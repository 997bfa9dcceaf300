"""Candidate kernels of a convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.registry import find, typed
from gossamer.runtime.graph import Candidate, Node
from gossamer.runtime.lowering.active import active_kernels, slice_of
from gossamer.runtime.lowering.conv_active import conv_active
from gossamer.runtime.lowering.convolution import Convolution
from gossamer.runtime.lowering.dense import (
    conv_gemm,
    depthwise,
    gemm_kernels,
    sparse_gemm_kernels,
    sparse_kernels,
)
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.lowering.sparse_conv import (
    depthwise_planes,
    examples,
    examples_scratch,
    lanes,
    lanes_scratch,
    planes,
)
from gossamer.runtime.lowering.winograd import winograd_candidates
from gossamer.runtime.packing import BLOCK

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv

EXAMPLES = 4 << 20  # most bytes of a vector of examples
LANES = 256 << 10  # of the copies of an image


def conv(lowering: Lowering, node: Node[Conv]) -> Iterator[Candidate]:
    conv = Convolution(lowering, node)
    weight, size, s = conv.weight, conv.size, conv.settings
    outputs, _, kernel_height, kernel_width = weight.shape
    usable, apart = lowering.usable(weight), 1 < s.groups == size[0]
    plains = ["last", "dense"] if size[0] > 1 and s.groups == 1 else [lowering.layout(conv.value)]
    if apart and size[0] == outputs:
        kernel = lowering.kernel(typed("depthwise", weight))
        yield Candidate("depthwise", partial(depthwise, conv, kernel))
        plains = []
    for plain in plains:
        kernels = gemm_kernels(lowering, weight, outputs // s.groups)
        if usable:
            kernels += sparse_gemm_kernels(lowering, weight)
        for kernel in kernels:
            yield Candidate(f"{kernel} {plain}", partial(conv_gemm, conv, kernel, plain))
    if not usable:
        return
    yield from winograd_candidates(conv)
    density = np.count_nonzero(weight) / weight.size
    # Of few outputs, lanes that are outputs would mostly be empty.
    sparse = density < 0.75 or outputs // s.groups <= lowering.width // 2 or lowering.every
    if sparse and apart:
        for kernel in find(lowering.isa, typed("planes", weight), "depthwise"):
            yield Candidate(str(kernel), partial(depthwise_planes, conv, kernel))
    elif sparse:
        for kernel in sparse_kernels(lowering, "planes", weight, s.groups):
            yield Candidate(str(kernel), partial(planes, conv, kernel))
    if s.groups > 1:
        return
    if sparse:
        # The pooled kernel takes a stride of one.
        poolable = s.pool != 2 or s.strides == (1, 1)
        if size[0] * kernel_height * kernel_width < 512 and poolable:
            tile = "pool" if s.pool == 2 else "rows"
            for kernel in sparse_kernels(lowering, "lanes", weight):
                if kernel.tile == tile and lanes_scratch(conv) * 4 <= LANES:
                    yield Candidate(str(kernel), partial(lanes, conv, kernel))
        for kernel in sparse_kernels(lowering, "examples", weight):
            room = examples_scratch(conv, kernel) * 4 <= EXAMPLES
            if (lowering.batched or lowering.every) and room:
                yield Candidate(str(kernel), partial(examples, conv, kernel))
    high, wide = conv.out
    reach = max(kernel_height, kernel_width, *s.strides) < 128
    if reach and math.prod(size) < 1 << 20 and high * wide * BLOCK * 4 <= 1 << 20:
        rows = weight.reshape(outputs, size[0], -1).transpose(1, 2, 0)
        margin = kernel_width * s.dilations[1]
        rows_span = (kernel_height * s.dilations[0] + 1) * (wide + margin)
        span = rows_span * slice_of(lowering, high * wide, outputs)
        together = s.strides == (1, 1) and s.dilations == (1, 1)
        for kernel in active_kernels(lowering, rows, conv.value, span):
            if kernel.layout != "dense" or together:
                yield Candidate(str(kernel), partial(conv_active, conv, kernel))
