"""Dense layers in integer arithmetic: 8-bit weights times the codes of rounded inputs.

The codes are a further form of a value: bytes, or 16-bit integers where the instructions multiply
those. A layer reads them in groups of 32 bits. A run is what is contiguous in memory (all inputs
of a linear layer; one row of taps with all its channels); its last group may extend past the
run's end, where the weights are zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.registry import Kernel, find
from gossamer.runtime.graph import DEEPEST, AnyNode, Array, Candidate, Node, whole
from gossamer.runtime.lowering.convolution import Convolution
from gossamer.runtime.lowering.dense import worth_trying
from gossamer.runtime.lowering.layouts import Lowering, Value
from gossamer.runtime.lowering.linear import in_order
from gossamer.runtime.packing import grouped_panels, limits, padded, up_to
from gossamer.runtime.program import Buffer

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv
    from gossamer.runtime.operators.int8 import Round

CODE_BYTES = {"quads": 1, "pairs": 2}
SPARSEST = 0.1  # below this density, kernels that skip zeros win anyway


def integer_gemm(lowering: Lowering, node: AnyNode) -> Iterator[Candidate]:
    """Yield the candidates of a layer with 8-bit weights, if its inputs are in 8 bits too."""
    grid = lowering.graph.rounding(node.inputs[0])
    weight = whole(node)
    if grid is None or grid.high - grid.low > 255 or not lowering.usable(weight):
        return
    density = np.count_nonzero(weight) / max(1, weight.size)
    if weight[0].size > DEEPEST or (density < SPARSEST and not lowering.every):
        return
    groups = node.operation.groups if node.op == "conv" else 1
    if groups > 1 and groups == len(weight):
        return  # depthwise
    emit = _conv if node.op == "conv" else _linear
    kernels = find(lowering.isa, "integer gemm")
    layouts = list(dict.fromkeys(kernel.layout for kernel in kernels))
    for layout in layouts if lowering.every else layouts[-1:]:
        tiles = [kernel for kernel in kernels if kernel.layout == layout]
        for kernel in worth_trying(lowering, tiles, len(weight) // groups):
            yield Candidate(str(kernel), partial(emit, lowering, node, kernel, grid))


def _linear(lowering: Lowering, node: AnyNode, kernel: Kernel, grid: Round) -> None:
    value = lowering.values[node.inputs[0]]
    weight = whole(node)
    depth = weight.shape[1]
    items = value.items * value.item // depth
    plain = "dense"
    if items == value.items:
        plain = lowering.layout(value)
        weight = in_order(value, weight, plain)
    source = _codes(lowering, value, lowering.form(value, plain), items, kernel, grid)
    result = lowering.value(node.output)
    _add(
        lowering, node, kernel, grid, source, lowering.new(result, "dense", result.item),
        weight[:, None], np.zeros(1, np.int64), np.zeros(1, np.int64), items,
    )  # fmt: skip


def _conv(lowering: Lowering, node: Node[Conv], kernel: Kernel, grid: Round) -> None:
    conv = Convolution(lowering, node)
    value, (c, _, w), s = conv.value, conv.size, conv.settings
    image = conv.padded_image("last" if c > 1 else lowering.layout(value))
    source = _codes(lowering, value, image, value.items, kernel, grid)
    weight = whole(node).transpose(0, 2, 3, 1)  # [outputs, rows, columns, channels]
    outputs, tall, wide, channels = weight.shape
    pitch = (w + s.pads[1] + s.pads[3]) * c
    together = channels == c and s.dilations[1] == 1  # do the taps of a row touch?
    across = np.zeros(1, np.int64) if together else np.arange(wide) * s.dilations[1] * c
    runs = (np.arange(tall)[:, None] * s.dilations[0] * pitch + across).ravel()
    high, broad = conv.out
    y, x = np.arange(high) * s.strides[0] * pitch, np.arange(broad) * s.strides[1] * c
    base = (y[:, None] + x).ravel()
    target, after = conv.output("last")
    each = outputs // s.groups
    for group in range(s.groups):
        part = slice(group * each, (group + 1) * each)
        _add(
            lowering, node, kernel, grid, source, target,
            weight[part].reshape(each, len(runs), -1), runs, base + group * channels,
            value.items, part,
        )  # fmt: skip
    after()


def _codes(
    lowering: Lowering, value: Value, plain: Buffer, items: int, kernel: Kernel, grid: Round
) -> Buffer:
    """Return the buffer with a value's codes, in ``items`` rows padded to 32-bit words."""
    form = f"{kernel.layout} {items} {plain.name}"
    if form not in value.forms:
        size = plain.floats // items
        words = up_to(size * CODE_BYTES[kernel.layout], 4) // 4
        value.forms[form] = Buffer(f"{value.name}|{form}", items * words)
        lowering.add(
            "",
            lowering.kernel("codes", kernel.layout),
            (plain,),
            value.forms[form],
            {"size": size},
            data=[np.array([grid.step, _shift(kernel, grid)], np.float32)],
            items=items,
        )
    return value.forms[form]


def _shift(kernel: Kernel, grid: Round) -> int:
    """Return the number added to codes, since codes of one byte are stored unsigned."""
    return -int(grid.low) if kernel.layout == "quads" else 0


def _add(
    lowering: Lowering, node: AnyNode, kernel: Kernel, grid: Round, source: Buffer,
    target: Buffer, weight: Array, runs: Array, base: Array, items: int,
    part: slice = slice(None),
) -> None:  # fmt: skip
    """Add the step of one matrix product: weights [outputs, runs, length] times codes.

    ``runs`` are the offsets of the runs from each base, in codes. ``part`` selects the layer's
    outputs that the weights are for.
    """
    code_bytes = CODE_BYTES[kernel.layout]
    group = 4 // code_bytes
    outputs, _, length = weight.shape
    columns = int(kernel.tile) * kernel.width
    start = -_shift(kernel, grid) * weight.sum(axis=(1, 2), dtype=np.int32)
    step = (node.constants["step"] * np.float32(grid.step)).astype(np.float32)
    offset = runs[:, None] + np.arange(0, up_to(length, group), group)
    everywhere = up_to(outputs, columns)
    first = part.indices(len(node.constants["bias"]))[0]
    macs = float(items * len(base) * weight.size)
    lowering.add(
        node.name,
        kernel,
        (source,),
        target,
        {
            "rows": len(base),
            "groups": offset.size,
            "outputs": outputs,
            "out_pitch": len(node.constants["bias"]),
            "out_offset": first,
        },
        data=[
            grouped_panels(weight, columns, group),
            padded(start, everywhere),
            padded(step[part], everywhere),
            padded(node.constants["bias"][part], everywhere),
            (offset * code_bytes).astype(np.int32).ravel(),
            (base * code_bytes).astype(np.int32),
            limits(node.operation.low, node.operation.high),
        ],
        items=items,
        macs=macs,
        dense_macs=macs,
    )
