"""Which kernels could compute a convolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from gossamer.kernels.registry import find, typed
from gossamer.runtime.graph import Node
from gossamer.runtime.lowering.active import active_kernels
from gossamer.runtime.lowering.conv_active import conv_active
from gossamer.runtime.lowering.dense import conv_gemm, conv_size, depthwise, gemm_kernels
from gossamer.runtime.lowering.layouts import Candidate, Forms
from gossamer.runtime.lowering.sparse_conv import (
    examples,
    examples_scratch,
    lanes,
    lanes_scratch,
    planes,
)
from gossamer.runtime.packing import (
    BLOCK,
    up_to,
)

EXAMPLES = 4 << 20  # bytes that a vector of examples may fill


def conv(forms: Forms, node: Node) -> Iterator[Candidate]:
    value, size = forms.image(node)
    weight = node.constants["weight"]
    outputs, _, kernel_height, kernel_width = weight.shape
    s = node.settings
    groups, strides, pool = s["groups"], s["strides"], s["pool"]
    if groups == size[0] == outputs:
        yield Candidate("depthwise", lambda: depthwise(forms, node, value, size))
        return
    plains = ["last", "dense"] if size[0] > 1 and groups == 1 else [forms.layout(value)]
    for plain in plains:
        for kernel in gemm_kernels(forms, weight, outputs // groups):
            yield Candidate(
                f"{kernel} {plain}",
                partial(conv_gemm, forms, node, kernel, value, size, plain),
            )
    if not forms.usable(weight) or groups > 1:
        return
    density = np.count_nonzero(weight) / weight.size
    high, wide = conv_size(forms, node)
    if density < 0.75 or forms.every:
        # The pooled kernel takes a stride of one.
        poolable = pool != 2 or strides == [1, 1]
        if size[0] * kernel_height * kernel_width < 512 and poolable:
            for kernel in find(forms.isa, typed("lanes", weight)):
                if (
                    kernel.tile == ("pool" if pool == 2 else "rows")
                    and lanes_scratch(forms, node, size) * 4 <= 256 << 10
                ):
                    yield Candidate(str(kernel), partial(lanes, forms, node, kernel, value, size))
        for kernel in find(forms.isa, typed("planes", weight)):
            yield Candidate(str(kernel), partial(planes, forms, node, kernel, value, size))
        for kernel in find(forms.isa, typed("examples", weight)):
            room = examples_scratch(forms, node, kernel, value) * 4 <= EXAMPLES
            if (forms.batched or forms.every) and room:
                yield Candidate(str(kernel), partial(examples, forms, node, kernel, value, size))
    reach = max(kernel_height, kernel_width, strides[0], strides[1]) < 128
    if reach and math.prod(size) < 1 << 20 and high * wide * BLOCK * 4 <= 1 << 20:
        rows = weight.reshape(outputs, size[0], -1).transpose(1, 2, 0)
        margin = kernel_width * s["dilations"][1]
        span = (kernel_height * s["dilations"][0] + 1) * (wide + margin) * up_to(outputs, 8 * BLOCK)
        together = strides == [1, 1] and s["dilations"] == [1, 1]
        for kernel in active_kernels(forms, rows, value, span):
            if kernel.layout != "dense" or together:
                yield Candidate(str(kernel), partial(conv_active, forms, node, kernel, value, size))
