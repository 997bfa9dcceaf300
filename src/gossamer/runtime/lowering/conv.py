"""Which kernels could compute a convolution."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.lowering.active import active_kernels
from gossamer.runtime.lowering.conv_active import conv_active
from gossamer.runtime.lowering.dense import conv_gemm, conv_size, depthwise, gemm_kernels
from gossamer.runtime.lowering.forms import Candidate, Forms
from gossamer.runtime.lowering.pixels import lanes, lanes_scratch, planes
from gossamer.runtime.packing import (
    BLOCK,
    up_to,
)
from gossamer.runtime.table import find


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
        for kernel in gemm_kernels(forms, outputs // groups):
            yield Candidate(
                f"{kernel} {plain}",
                partial(conv_gemm, forms, node, kernel, value, size, plain),
            )
    if not forms.usable(weight) or groups > 1:
        return
    density = np.count_nonzero(weight) / weight.size
    high, wide = conv_size(forms, node)
    if density < 0.75:
        # The pooled kernel steps alike along rows and columns.
        steps_alike = pool != 2 or strides[0] == strides[1]
        if size[0] * kernel_height * kernel_width < 512 and steps_alike:
            for kernel in find(forms.isa, "lanes"):
                if (
                    kernel.tile == ("pool" if pool == 2 else "rows")
                    and lanes_scratch(forms, node, size) * 4 <= 256 << 10
                ):
                    yield Candidate(str(kernel), partial(lanes, forms, node, kernel, value, size))
        for kernel in find(forms.isa, "planes"):
            yield Candidate(str(kernel), partial(planes, forms, node, kernel, value, size))
    reach = max(kernel_height, kernel_width, strides[0], strides[1]) < 256
    if reach and s["dilations"] == [1, 1] and size[0] * size[1] * size[2] < 1 << 20:
        if high * wide * BLOCK * 4 > 1 << 20:
            return
        rows = weight.reshape(outputs, size[0], -1).transpose(1, 2, 0)
        span = (kernel_height * wide + kernel_width) * up_to(outputs, 8 * BLOCK)
        for kernel in active_kernels(forms, rows, value, span):
            yield Candidate(str(kernel), partial(conv_active, forms, node, kernel, value, size))
