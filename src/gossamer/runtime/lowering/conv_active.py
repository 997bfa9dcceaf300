"""Convolutions that read a list of active inputs."""

from __future__ import annotations

import numpy as np

from gossamer.kernels.registry import Kernel
from gossamer.runtime.graph import Array
from gossamer.runtime.lowering.active import Grid, emit_active, tiles
from gossamer.runtime.lowering.convolution import Convolution
from gossamer.runtime.packing import InputMajor


def taps_by_residue(size: int, stride: int, dilation: int) -> tuple[Array, Array]:
    """Return the taps of one axis for inputs of each residue, and their shifts in outputs.

    Both are [residues, most taps]; missing taps are -1.
    """
    taps_of: list[list[tuple[int, int]]] = [[] for _ in range(stride)]
    for tap in range(size):
        taps_of[tap * dilation % stride].append((tap, tap * dilation // stride))
    most = max(len(taps) for taps in taps_of)
    taps, shifts = np.full((stride, most), -1), np.zeros((stride, most), np.int64)
    for residue, those in enumerate(taps_of):
        for i in range(most):
            if i < len(those):
                taps[residue, i], shifts[residue, i] = those[i]
            elif i:
                shifts[residue, i] = shifts[residue, i - 1] + 1
    return taps, shifts


def arrange(conv: Convolution) -> tuple[Array, Array, Grid]:
    """Return weights [inputs, rows, columns, outputs], shifts of the taps, and the grid of sums.

    The inputs are channels times residues. Columns are in descending order, so that neighboring
    taps reach neighboring outputs.
    """
    weight, s, out = conv.weight, conv.settings, conv.out
    (c, h, w), (sy, sx), pads = conv.size, s.strides, s.pads
    ky, down = taps_by_residue(weight.shape[2], sy, s.dilations[0])
    kx, right = taps_by_residue(weight.shape[3], sx, s.dilations[1])
    kx, right = kx[:, ::-1], right[:, ::-1]
    picked = weight[:, :, ky][..., kx]  # [outputs, channels, sy, rows, sx, columns]
    picked = picked * ((ky >= 0)[:, :, None, None] & (kx >= 0))
    rows = picked.transpose(1, 2, 4, 3, 5, 0)
    rows = rows.reshape(-1, ky.shape[1], kx.shape[1], len(weight))
    y, x = np.arange(h) + pads[0], np.arange(w) + pads[1]
    column = (x // sx)[:, None] - right[x % sx]
    here = kx[x % sx] >= 0
    left = max(0, -int(np.where(here, column, 0).min()))
    beyond = max(0, int(np.where(here, column, 0).max()) - (out[1] - 1))
    pitch = out[1] + max(left, beyond)
    shift = -(down[:, None, :, None] * pitch + right[None, :, None, :])
    shift = np.tile(shift.reshape(sy * sx, *shift.shape[2:]), (c, 1, 1))
    reached = (y // sy)[:, None] - down[y % sy]  # the output row, for each row of taps
    valid = (reached >= 0) & (reached < out[0])
    first = np.where(valid.any(axis=1), valid.argmax(axis=1), 0)
    # The first input row of a residue from which a row of taps reaches an output, and the end.
    reach = np.zeros((sy, sx, ky.shape[1], 2), np.int32)
    for r in range(sy):
        for j in range(ky.shape[1]):
            begin, end = (down[r, j] + edge for edge in (0, out[0]))
            reach[r, :, j] = [max(0, min(h, sy * n + r - pads[0])) for n in (begin, end)]
    place = np.empty((h, w, 2), np.int32)
    place[..., 0] = left + (y // sy)[:, None] * pitch + x // sx
    residue = (y % sy)[:, None] * sx + x % sx
    place[..., 1] = (first | (first + valid.sum(axis=1)) << 8)[:, None] | residue << 16
    row = (residue * h + np.arange(h)[:, None]).astype(np.int32)
    channel_first = conv.lowering.list_form(conv.value) == "list"
    grid = Grid(
        *out,
        pitch,
        origin=left,
        positions=left + out[0] * pitch,
        residues=sy * sx,
        in_height=h,
        in_width=w,
        inner=h * w if channel_first else c,
        channel_first=channel_first,
        pool=s.pool,
        planes=conv.node.output in conv.lowering.graph.outputs,
        place=np.concatenate([reach.ravel(), place.ravel(), row.ravel()]),
    )
    return rows, shift, grid


def conv_active(conv: Convolution, kernel: Kernel) -> None:
    lowering, weight, s = conv.lowering, conv.weight, conv.settings
    _, h, w = conv.size
    rows, shift, grid = arrange(conv)
    major = InputMajor(rows, shift, tiles(lowering, grid.positions, len(weight)))
    target, after = conv.output("dense" if grid.planes else "last", pooled=True)
    # Every weight meets as many inputs as there are outputs, fewer where they are padding.
    meets = np.float64(0.0)
    taps = np.count_nonzero(weight, axis=(0, 1))
    for ky, kx in np.ndindex(taps.shape):
        counts = [
            sum(0 <= o * s.strides[i] + k * s.dilations[i] - s.pads[i] < n for o in range(m))
            for i, (k, n, m) in enumerate(((ky, h, grid.out_height), (kx, w, grid.out_width)))
        ]
        meets += taps[ky, kx] * counts[0] * counts[1]
    emit_active(
        lowering,
        conv.node,
        kernel,
        conv.value,
        major,
        target,
        grid,
        float(meets) * conv.value.items,
        conv.dense_macs,
    )
    after()
