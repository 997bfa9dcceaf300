"""Convolutions with sparse weights, vectorized over pixels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.registry import Kernel
from gossamer.runtime.constants import nonzeros
from gossamer.runtime.graph import Array, Node
from gossamer.runtime.lowering.dense import after_conv, conv_size, dense_macs, outputs_together
from gossamer.runtime.lowering.layouts import L1, L2, SUMS, Lowering, Value
from gossamer.runtime.packing import (
    by_chunk,
    by_count,
    by_output,
    limits,
    padded,
    up_to,
)
from gossamer.runtime.program import Buffer

ALIGNED = 8  # weights of an input channel that are worth a copy of its plane
CHUNK = 8  # weights of an output in a chunk that are worth its sums' way to the cache and back

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv


def planes(
    lowering: Lowering, node: Node[Conv], kernel: Kernel, value: Value, size: tuple[int, int, int]
) -> None:
    high, wide = conv_size(lowering, node)
    lie = strided_planes(lowering, node, value, size, whole=True)
    _, _, pitch, (below, beside) = lie
    weight = node.constants["weight"]
    narrow = lowering.width // 2 if kernel.tile == "half" else lowering.width
    most = (20 if lowering.width == 16 else 9) * narrow
    tile = min((high - 1) * pitch + wide, most)
    taps = math.prod(weight.shape[2:])
    per_channel = min(tile + below * pitch + beside, taps * tile) * 4
    # With every chunk all sums are read and written once more: beside a few weights of each
    # output that takes longer than inputs that come from the second cache.
    worth = CHUNK * weight.size / max(1, nonzeros(weight)) / taps
    channels = max(L1 // per_channel, min(math.ceil(worth), L2 // per_channel))
    scratch = up_to(len(weight), outputs_together(kernel)) * most
    _by_chunks(lowering, node, kernel, value, lie, channels, {}, 1, scratch)


def depthwise_planes(
    lowering: Lowering, node: Node[Conv], kernel: Kernel, value: Value, size: tuple[int, int, int]
) -> None:
    weight, s = node.constants["weight"], node.operation
    (c, h, w), (sy, sx), pads = size, s.strides, s.pads
    high, wide = conv_size(lowering, node)
    pitch = -(-(w + pads[1] + pads[3]) // sx)
    _, (below, _) = phase_offsets(node, pitch, 0)
    # As few bands as fit the first cache, of about as many rows each.
    bands = math.ceil(high / max(1, L1 // (sy * sx * pitch * 4) - below))
    band = math.ceil(high / bands)
    plane = (band + below) * pitch
    offset, _ = phase_offsets(node, pitch, plane)
    bounds, offsets, values = by_output(weight.reshape(len(weight), -1), offset)
    target, after = after_conv(lowering, node, "dense", False)
    lowering.add(
        node.name,
        kernel,
        (lowering.form(value, "dense"),),
        target,
        {
            "channels": c,
            "in_height": h,
            "in_width": w,
            "outputs": len(weight),
            "height": high,
            "width": wide,
            "band": band,
            "rows": band + below,
            "pitch": pitch,
            "stride_height": sy,
            "stride_width": sx,
            "top": pads[0],
            "left": pads[1],
        },
        data=[bounds, offsets, values, node.constants["bias"], limits(s.low, s.high)],
        # A tile of sums, the band, and what the last vector reads beyond it.
        scratch=21 * lowering.width + sy * sx * plane,
        items=value.items,
        macs=float(value.items * len(values) * high * wide),
        dense_macs=dense_macs(lowering, node) * value.items,
    )
    after()


def examples_scratch(lowering: Lowering, node: Node[Conv], kernel: Kernel, value: Value) -> int:
    """Return the floats of scratch memory: the image as read, the result, a tile's sums."""
    (_, c, *size), s = value.shape, node.operation
    h, w = size if len(size) == 2 else (1, *size)
    (sy, sx), pads = s.strides, s.pads
    image = c * up_to(h + pads[0] + pads[2], sy) * up_to(w + pads[1] + pads[3], sx)
    high, wide = conv_size(lowering, node)
    outputs = len(node.constants["weight"])
    sums = 2 * int(kernel.tile) * up_to(outputs, outputs_together(kernel))
    return (image + outputs * high * wide + sums) * lowering.width


def examples(
    lowering: Lowering, node: Node[Conv], kernel: Kernel, value: Value, size: tuple[int, int, int]
) -> None:
    _, wide = conv_size(lowering, node)
    lie = strided_planes(lowering, node, value, size)
    *_, (below, beside) = lie
    per_channel = (2 + below) * (min(wide, int(kernel.tile)) + beside) * lowering.width * 4
    pool = {"pool": 2 if node.operation.pool == 2 else 1}
    scratch = examples_scratch(lowering, node, kernel, value)
    # A little more than L1: with every chunk all sums are read and written once more.
    fit = SUMS // per_channel
    _by_chunks(lowering, node, kernel, value, lie, fit, pool, lowering.width, scratch)


def _by_chunks(
    lowering: Lowering,
    node: Node[Conv],
    kernel: Kernel,
    value: Value,
    lie: tuple[Buffer, Array, int, tuple[int, int]],
    channels: int,
    pool: dict[str, int],
    scale: int,
    scratch: int,
) -> None:
    """Lower a convolution that reads its weights in chunks of ``channels`` that fit the cache.

    ``lie`` is the result of ``strided_planes``; ``scale`` multiplies its offsets for the kernel.
    """
    weight, bias, s = node.constants["weight"], node.constants["bias"], node.operation
    source, offset, pitch, _ = lie
    high, wide = conv_size(lowering, node)
    chunk = max(1, min(weight.shape[1], channels)) * weight.shape[2] * weight.shape[3]
    matrix, together = weight.reshape(len(weight), -1), outputs_together(kernel)
    bounds, inputs, values = by_chunk(matrix, np.arange(matrix.shape[1]), chunk, together)
    # The inputs of a block of outputs are those of its group.
    blocks = bounds.shape[1] - 1
    group = np.arange(blocks) * s.groups // blocks
    groups = np.repeat(np.tile(group, len(bounds)), np.diff(bounds, axis=1).ravel())
    offsets = (offset * scale).astype(np.int32).reshape(s.groups, -1)[groups, inputs]
    target, after = after_conv(lowering, node, "dense", pool.get("pool") == 2)
    lowering.add(
        node.name,
        kernel,
        (source,),
        target,
        {
            "chunks": len(bounds),
            "outputs": len(weight),
            "pitch": pitch,
            "height": high,
            "width": wide,
            **pool,
        },
        data=[bounds, offsets, values, padded(bias, blocks * together), limits(s.low, s.high)],
        scratch=scratch,
        items=value.items,
        macs=float(value.items * nonzeros(weight) * high * wide),
        dense_macs=dense_macs(lowering, node) * value.items,
    )
    after()


def strided_planes(
    lowering: Lowering,
    node: Node[Conv],
    value: Value,
    size: tuple[int, int, int],
    *,
    whole: bool = False,
) -> tuple[Buffer, Array, int, tuple[int, int]]:
    """Return the padded planes of the input, one for each phase of the strides.

    With ``whole``, planes that single taps read may begin at whole vectors: loads of others cross
    cache lines.

    Returns:
        The buffer; the offset of each weight's input for output (0, 0); the pitch of a row; and
        how many rows and columns beyond an output's position its weights reach.
    """
    s = node.operation
    (c, h, w), (sy, sx), pads = size, s.strides, s.pads
    # Phases: with a stride, every stride-th row and column lie together.
    rows, pitch = -(-(h + pads[0] + pads[2]) // sy), -(-(w + pads[1] + pads[3]) // sx)
    plane = rows * pitch
    weight = node.constants["weight"]
    single = weight.shape[2:] == (1, 1) and sy == sx == 1 and not any(pads)
    if whole and single and plane % lowering.width and nonzeros(weight) >= ALIGNED * c:
        plane = up_to(plane, lowering.width)
        source = whole_vectors(lowering, value, c, h * w, plane)
    elif sy == sx == 1:
        source = lowering.padded_image(value, size, pads, "dense")
    else:
        source = phases(lowering, value, size, pads, (sy, sx), rows, pitch)
    offset, beyond = phase_offsets(node, pitch, plane)
    every = np.arange(c)[:, None] * (sy * sx * plane) + offset
    return source, every.ravel(), pitch, beyond


def whole_vectors(
    lowering: Lowering, value: Value, channels: int, pixels: int, plane: int
) -> Buffer:
    """Return an image whose planes have ``plane`` floats, of which nobody needs the last ones."""
    form = f"planes of {plane}"
    if form not in value.forms:
        layout = lowering.layout(value)
        source = lowering.form(value, layout)
        lowering.copy(
            source,
            lowering.new(value, form, channels * plane),
            value.items,
            [channels, pixels],
            [pixels, 1] if layout == "dense" else [1, channels],
            [plane, 1],
        )
    return value.forms[form]


def phase_offsets(node: Node[Conv], pitch: int, plane: int) -> tuple[Array, tuple[int, int]]:
    """Return where the input of each tap of output (0, 0) lies in a channel's phases.

    And how many rows and columns beyond an output's position the taps reach. ``pitch`` and
    ``plane`` are the floats of a row and of a phase.
    """
    weight, s = node.constants["weight"], node.operation
    sy, sx = s.strides
    ky, kx = np.meshgrid(
        np.arange(weight.shape[2]) * s.dilations[0],
        np.arange(weight.shape[3]) * s.dilations[1],
        indexing="ij",
    )
    offset = (ky % sy * sx + kx % sx) * plane + ky // sy * pitch + kx // sx
    return offset.ravel(), (int(ky.max()) // sy, int(kx.max()) // sx)


def phases(
    lowering: Lowering,
    value: Value,
    size: tuple[int, int, int],
    pads: tuple[int, ...],
    strides: tuple[int, ...],
    rows: int,
    pitch: int,
) -> Buffer:
    form = f"phases {pads} {strides}"
    if form in value.forms:
        return value.forms[form]
    (c, h, w), (sy, sx) = size, strides
    source = lowering.form(value, "dense")
    total = c * sy * sx * rows * pitch
    buffer = lowering.new(value, form, total)
    clear = total
    for py in range(sy):
        for px in range(sx):
            # rows y of the image with (y + top) % sy == py
            y0, x0 = (py - pads[0]) % sy, (px - pads[1]) % sx
            tall, broad = -(-(h - y0) // sy), -(-(w - x0) // sx)
            if tall < 1 or broad < 1:
                continue
            at = (py * sx + px) * rows * pitch + (y0 + pads[0]) // sy * pitch + (x0 + pads[1]) // sx
            lowering.copy(
                source,
                buffer,
                value.items,
                [c, tall, broad],
                [h * w, sy * w, sx],
                [sy * sx * rows * pitch, pitch, 1],
                start=y0 * w + x0,
                at=at,
                clear=clear,
            )
            clear = 0
    return buffer


def lanes_shape(lowering: Lowering, node: Node[Conv], size: tuple[int, int, int]) -> dict[str, int]:
    s, weight = node.operation, node.constants["weight"]
    pool = s.pool if s.pool == 2 else 1
    rows, pitch = size[1] + s.pads[0] + s.pads[2], size[2] + s.pads[1] + s.pads[3]
    high, wide = (n // pool for n in conv_size(lowering, node))
    shifts = (pool - 1) * s.strides[1] + (weight.shape[3] - 1) * s.dilations[1] + 1
    return {
        "channels": size[0],
        "in_height": rows,
        "in_width": pitch,
        "outputs": len(weight),
        "height": high,
        "width": wide,
        "step": s.strides[1] * pool,
        "shifts": shifts,
        "row_step": s.strides[0] * pool,
        "pool": pool,
    }


def lanes_scratch(lowering: Lowering, node: Node[Conv], size: tuple[int, int, int]) -> int:
    shape = lanes_shape(lowering, node, size)
    row = up_to(shape["width"], lowering.width) * shape["shifts"]
    return shape["channels"] * shape["in_height"] * row


def lanes(
    lowering: Lowering, node: Node[Conv], kernel: Kernel, value: Value, size: tuple[int, int, int]
) -> None:
    s, weight = node.operation, node.constants["weight"]
    shape = lanes_shape(lowering, node, size)
    channels, rows = shape["channels"], shape["in_height"]
    source = lowering.padded_image(value, size, s.pads, "dense")
    pitch = up_to(shape["width"], lowering.width) * shape["shifts"]
    ic, ky, kx = np.meshgrid(
        np.arange(channels) * rows * pitch,
        np.arange(weight.shape[2]) * s.dilations[0] * pitch,
        np.arange(weight.shape[3]) * s.dilations[1] * lowering.width,
        indexing="ij",
    )
    matrix, together = weight.reshape(len(weight), -1), outputs_together(kernel)
    entries = by_output(matrix, (ic + ky + kx).ravel(), together)
    bounds, offsets, values, order = by_count(*entries)
    bias = padded(node.constants["bias"], len(order) * together)
    clip = limits(s.low, s.high)
    target, after = after_conv(lowering, node, "dense", kernel.tile == "pool")
    high, wide = conv_size(lowering, node)
    lowering.add(
        node.name,
        kernel,
        (source,),
        target,
        shape,
        data=[bounds, offsets, values, bias, clip, order],
        scratch=lanes_scratch(lowering, node, size),
        items=value.items,
        macs=float(value.items * nonzeros(weight) * high * wide),
        dense_macs=dense_macs(lowering, node) * value.items,
    )
    after()
