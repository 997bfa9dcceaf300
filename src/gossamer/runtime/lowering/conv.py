"""Candidate kernels of a convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.registry import find, typed
from gossamer.runtime.graph import Candidate, Node
from gossamer.runtime.lowering.active import active_kernels
from gossamer.runtime.lowering.conv_active import conv_active
from gossamer.runtime.lowering.dense import (
    conv_gemm,
    conv_size,
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
from gossamer.runtime.packing import (
    BLOCK,
    up_to,
)

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv

EXAMPLES = 4 << 20  # most bytes of a vector of examples


def conv(lowering: Lowering, node: Node[Conv]) -> Iterator[Candidate]:
    value, size = lowering.image(node)
    weight = node.constants["weight"]
    outputs, _, kernel_height, kernel_width = weight.shape
    s = node.operation
    groups, strides, pool = s.groups, s.strides, s.pool
    if 1 < groups == size[0] == outputs:
        yield Candidate("depthwise", lambda: depthwise(lowering, node, value, size))
        plains = []
    elif size[0] > 1 and groups == 1:
        plains = ["last", "dense"]
    else:
        plains = [lowering.layout(value)]
    for plain in plains:
        kernels = gemm_kernels(lowering, weight, outputs // groups)
        if lowering.usable(weight):
            kernels += sparse_gemm_kernels(lowering, weight)
        for kernel in kernels:
            yield Candidate(
                f"{kernel} {plain}",
                partial(conv_gemm, lowering, node, kernel, value, size, plain),
            )
    if not lowering.usable(weight):
        return
    yield from winograd_candidates(lowering, node, value, size)
    density = np.count_nonzero(weight) / weight.size
    high, wide = conv_size(lowering, node)
    # Of few outputs, lanes that are outputs would mostly be empty.
    sparse = density < 0.75 or outputs // groups <= lowering.width // 2 or lowering.every
    if sparse:
        apart = 1 < groups == size[0]
        lower, kernels = (
            (depthwise_planes, find(lowering.isa, typed("planes", weight), "depthwise"))
            if apart
            else (planes, sparse_kernels(lowering, "planes", weight, groups))
        )
        for kernel in kernels:
            yield Candidate(str(kernel), partial(lower, lowering, node, kernel, value, size))
    if groups > 1:
        return
    if sparse:
        # The pooled kernel takes a stride of one.
        poolable = pool != 2 or strides == (1, 1)
        if size[0] * kernel_height * kernel_width < 512 and poolable:
            for kernel in sparse_kernels(lowering, "lanes", weight):
                if (
                    kernel.tile == ("pool" if pool == 2 else "rows")
                    and lanes_scratch(lowering, node, size) * 4 <= 256 << 10
                ):
                    yield Candidate(
                        str(kernel), partial(lanes, lowering, node, kernel, value, size)
                    )
        for kernel in sparse_kernels(lowering, "examples", weight):
            room = examples_scratch(lowering, node, kernel, value) * 4 <= EXAMPLES
            if (lowering.batched or lowering.every) and room:
                yield Candidate(str(kernel), partial(examples, lowering, node, kernel, value, size))
    reach = max(kernel_height, kernel_width, strides[0], strides[1]) < 128
    if reach and math.prod(size) < 1 << 20 and high * wide * BLOCK * 4 <= 1 << 20:
        rows = weight.reshape(outputs, size[0], -1).transpose(1, 2, 0)
        margin = kernel_width * s.dilations[1]
        span = (kernel_height * s.dilations[0] + 1) * (wide + margin) * up_to(outputs, 8 * BLOCK)
        together = strides == (1, 1) and s.dilations == (1, 1)
        for kernel in active_kernels(lowering, rows, value, span):
            if kernel.layout != "dense" or together:
                yield Candidate(
                    str(kernel), partial(conv_active, lowering, node, kernel, value, size)
                )
