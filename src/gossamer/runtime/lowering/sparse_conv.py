"""Convolutions with sparse weights, vectorized over pixels."""

from __future__ import annotations

import math

import numpy as np

from gossamer.kernels.registry import Kernel
from gossamer.runtime.constants import nonzeros
from gossamer.runtime.graph import Array
from gossamer.runtime.lowering.convolution import Convolution
from gossamer.runtime.lowering.dense import outputs_together
from gossamer.runtime.lowering.layouts import L1, L2, SUMS
from gossamer.runtime.packing import by_chunk, by_count, by_output, padded, up_to
from gossamer.runtime.program import Buffer

ALIGNED = 8  # weights of an input channel that are worth a copy of its plane
CHUNK = 24  # weights of an output in a chunk that are worth its sums' way to the cache and back


def planes(conv: Convolution, kernel: Kernel) -> None:
    (high, wide), weight, width = conv.out, conv.weight, conv.lowering.width
    lie = strided_planes(conv, whole=True)
    _, _, pitch, (below, beside) = lie
    most = (20 if width == 16 else 9) * (width // 2 if kernel.tile == "half" else width)
    tile = min((high - 1) * pitch + wide, most)
    taps = math.prod(weight.shape[2:])
    per_channel = min(tile + below * pitch + beside, taps * tile) * 4
    # With every chunk all sums are read and written once more: beside a few weights of each
    # output that takes longer than inputs that come from the second cache.
    worth = CHUNK * weight.size / max(1, nonzeros(weight)) / taps
    channels = max(L1 // per_channel, min(math.ceil(worth), L2 // per_channel))
    scratch = up_to(len(weight), outputs_together(kernel)) * most
    _by_chunks(conv, kernel, lie, channels, 1, scratch)


def depthwise_planes(conv: Convolution, kernel: Kernel) -> None:
    weight, s, high = conv.weight, conv.settings, conv.out[0]
    sy, sx = s.strides
    pitch = -(-(conv.size[2] + s.pads[1] + s.pads[3]) // sx)
    phase, offset, (below, _) = taps(conv, pitch)
    # As few bands as fit the first cache, of about as many rows each.
    bands = math.ceil(high / max(1, L1 // (sy * sx * pitch * 4) - below))
    band = math.ceil(high / bands)
    plane = (band + below) * pitch
    bounds, offsets, values = by_output(weight.reshape(len(weight), -1), phase * plane + offset)
    target, after = conv.output("dense")
    conv.add(
        kernel,
        conv.lowering.form(conv.value, "dense"),
        target,
        {"band": band, "rows": band + below, "pitch": pitch},
        [bounds, offsets, values, conv.bias, conv.clip],
        float(conv.pixels * len(values)),
        # A tile of sums, the band, and what the last vector reads beyond it.
        scratch=21 * conv.lowering.width + sy * sx * plane,
    )
    after()


def examples_scratch(conv: Convolution, kernel: Kernel) -> int:
    """Return the floats of scratch memory: the image as read, the result, a tile's sums."""
    (c, h, w), (sy, sx), pads = conv.size, conv.settings.strides, conv.settings.pads
    image = c * up_to(h + pads[0] + pads[2], sy) * up_to(w + pads[1] + pads[3], sx)
    outputs = len(conv.weight)
    sums = 2 * int(kernel.tile) * up_to(outputs, outputs_together(kernel))
    return (image + outputs * math.prod(conv.out) + sums) * conv.lowering.width


def examples(conv: Convolution, kernel: Kernel) -> None:
    width = conv.lowering.width
    lie = strided_planes(conv)
    *_, (below, beside) = lie
    per_channel = (2 + below) * (min(conv.out[1], int(kernel.tile)) + beside) * width * 4
    # A little more than L1: with every chunk all sums are read and written once more.
    _by_chunks(conv, kernel, lie, SUMS // per_channel, width, examples_scratch(conv, kernel))


def _by_chunks(
    conv: Convolution,
    kernel: Kernel,
    lie: tuple[Buffer, Array, int, tuple[int, int]],
    channels: int,
    scale: int,
    scratch: int,
) -> None:
    """Lower a convolution that reads its weights in chunks of ``channels`` that fit the cache.

    ``lie`` is the result of ``strided_planes``; ``scale`` multiplies its offsets for the kernel.
    """
    weight, s = conv.weight, conv.settings
    source, offset, pitch, _ = lie
    chunk = max(1, min(weight.shape[1], channels)) * weight.shape[2] * weight.shape[3]
    matrix, together = weight.reshape(len(weight), -1), outputs_together(kernel)
    bounds, inputs, values = by_chunk(matrix, np.arange(matrix.shape[1]), chunk, together)
    # The inputs of a block of outputs are those of its group.
    blocks = bounds.shape[1] - 1
    group = np.arange(blocks) * s.groups // blocks
    groups = np.repeat(np.tile(group, len(bounds)), np.diff(bounds, axis=1).ravel())
    offsets = (offset * scale).astype(np.int32).reshape(s.groups, -1)[groups, inputs]
    target, after = conv.output("dense", pooled=conv.shape(kernel).get("pool") == 2)
    shape = {"chunks": len(bounds), "pitch": pitch}
    data = [bounds, offsets, values, padded(conv.bias, blocks * together), conv.clip]
    macs = float(conv.pixels * nonzeros(weight))
    conv.add(kernel, source, target, shape, data, macs, scratch=scratch)
    after()


def strided_planes(
    conv: Convolution, *, whole: bool = False
) -> tuple[Buffer, Array, int, tuple[int, int]]:
    """Return the padded planes of the input, one for each phase of the strides.

    With ``whole``, planes that single taps read may begin at whole vectors: loads of others cross
    cache lines.

    Returns:
        The buffer; the offset of each weight's input for output (0, 0); the pitch of a row; and
        how many rows and columns beyond an output's position its weights reach.
    """
    weight, width = conv.weight, conv.lowering.width
    (c, h, w), (sy, sx), pads = conv.size, conv.settings.strides, conv.settings.pads
    # Phases: with a stride, every stride-th row and column lie together.
    rows, pitch = -(-(h + pads[0] + pads[2]) // sy), -(-(w + pads[1] + pads[3]) // sx)
    plane = rows * pitch
    single = weight.shape[2:] == (1, 1) and sy == sx == 1 and not any(pads)
    if whole and single and plane % width and nonzeros(weight) >= ALIGNED * c:
        plane = up_to(plane, width)
        source = whole_vectors(conv, plane)
    elif sy == sx == 1:
        source = conv.padded_image("dense")
    else:
        source = phases(conv, rows, pitch)
    # Each phase that taps read has the planes of all channels, one behind the other.
    phase, offset, beyond = taps(conv, pitch)
    _, read = np.unique(phase, return_inverse=True)
    every = np.arange(c)[:, None] * plane + read * (c * plane) + offset
    return source, every.ravel(), pitch, beyond


def whole_vectors(conv: Convolution, plane: int) -> Buffer:
    """Return an image whose planes have ``plane`` floats, of which nobody needs the last ones."""
    lowering, value, (channels, high, wide) = conv.lowering, conv.value, conv.size
    form, pixels = f"planes of {plane}", high * wide
    if form not in value.forms:
        layout = lowering.layout(value)
        source = lowering.form(value, layout)
        dense = layout == "dense"
        lowering.copy(
            source,
            lowering.new(value, form, channels * plane),
            value.items,
            [channels, pixels] if dense else [pixels, channels],
            [pixels, 1] if dense else [channels, 1],
            [plane, 1] if dense else [1, plane],
            pixels=pixels if dense else 0,
        )
    return value.forms[form]


def taps(conv: Convolution, pitch: int) -> tuple[Array, Array, tuple[int, int]]:
    """Return where the input of each tap of output (0, 0) lies: its phase, and where in that.

    And how many rows and columns beyond an output's position the taps reach. ``pitch`` are the
    floats of a row of a phase.
    """
    (sy, sx), dilations = conv.settings.strides, conv.settings.dilations
    ky, kx = np.meshgrid(
        np.arange(conv.weight.shape[2]) * dilations[0],
        np.arange(conv.weight.shape[3]) * dilations[1],
        indexing="ij",
    )
    phase, offset = ky % sy * sx + kx % sx, ky // sy * pitch + kx // sx
    return phase.ravel(), offset.ravel(), (int(ky.max()) // sy, int(kx.max()) // sx)


def phases(conv: Convolution, rows: int, pitch: int) -> Buffer:
    """Return the input with every stride-th row and column together, as far as taps read it."""
    lowering, value, pads = conv.lowering, conv.value, conv.settings.pads
    (c, h, w), (sy, sx) = conv.size, conv.settings.strides
    read = np.unique(taps(conv, pitch)[0]).tolist()
    form = f"phases {read} {pads} {conv.settings.strides}"
    if form in value.forms:
        return value.forms[form]
    source = lowering.form(value, "dense")
    plane = rows * pitch
    buffer = lowering.new(value, form, len(read) * c * plane)
    for i, (py, px) in enumerate(divmod(phase, sx) for phase in read):
        # rows y of the image with (y + top) % sy == py
        y0, x0 = (py - pads[0]) % sy, (px - pads[1]) % sx
        tall, broad = max(0, -(-(h - y0) // sy)), max(0, -(-(w - x0) // sx))
        lowering.copy(
            source,
            buffer,
            value.items,
            [c, tall, broad],
            [h * w, sy * w, sx],
            [plane, pitch, 1],
            start=y0 * w + x0,
            at=i * c * plane + (y0 + pads[0]) // sy * pitch + (x0 + pads[1]) // sx,
            clear=c * plane,
            clear_at=i * c * plane,
            pixels=h * w,
        )
    return buffer


def lanes_shape(conv: Convolution) -> dict[str, int]:
    s, (_, h, w) = conv.settings, conv.size
    pool = 2 if s.pool == 2 else 1
    high, wide = (n // pool for n in conv.out)
    return {
        "in_height": h + s.pads[0] + s.pads[2],
        "in_width": w + s.pads[1] + s.pads[3],
        "height": high,
        "width": wide,
        "step": s.strides[1] * pool,
        "shifts": (pool - 1) * s.strides[1] + (conv.weight.shape[3] - 1) * s.dilations[1] + 1,
        "row_step": s.strides[0] * pool,
    }


def lanes_scratch(conv: Convolution) -> int:
    shape = lanes_shape(conv)
    row = up_to(shape["width"], conv.lowering.width) * shape["shifts"]
    return conv.size[0] * shape["in_height"] * row


def lanes(conv: Convolution, kernel: Kernel) -> None:
    weight, s, shape, width = conv.weight, conv.settings, lanes_shape(conv), conv.lowering.width
    source = conv.padded_image("dense")
    pitch = up_to(shape["width"], width) * shape["shifts"]
    ic, ky, kx = np.meshgrid(
        np.arange(conv.size[0]) * shape["in_height"] * pitch,
        np.arange(weight.shape[2]) * s.dilations[0] * pitch,
        np.arange(weight.shape[3]) * s.dilations[1] * width,
        indexing="ij",
    )
    matrix, together = weight.reshape(len(weight), -1), outputs_together(kernel)
    entries = by_output(matrix, (ic + ky + kx).ravel(), together)
    bounds, offsets, values, order = by_count(*entries)
    bias = padded(conv.bias, len(order) * together)
    target, after = conv.output("dense", pooled=s.pool == 2)
    data = [bounds, offsets, values, bias, conv.clip, order]
    macs = float(conv.pixels * nonzeros(weight))
    conv.add(kernel, source, target, shape, data, macs, scratch=lanes_scratch(conv))
    after()
