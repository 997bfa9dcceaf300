"""Convolutions that read a list of active inputs."""

from __future__ import annotations

import numpy as np

from gossamer.runtime.graph import Node
from gossamer.runtime.lowering.active import emit_active, tiles
from gossamer.runtime.lowering.dense import after_conv, conv_size
from gossamer.runtime.lowering.forms import Forms, Value
from gossamer.runtime.packing import (
    InputMajor,
    limits,
)
from gossamer.runtime.table import Kernel


def conv_active(
    forms: Forms, node: Node, kernel: Kernel, value: Value, size: tuple[int, int, int]
) -> None:
    weight, s = node.constants["weight"], node.settings
    high, wide = conv_size(forms, node)
    (c, h, w), (sy, sx), pads = size, s["strides"], s["pads"]
    kernel_height, kernel_width = weight.shape[2:]
    listed = forms.list_form(value)
    source = forms.form(value, listed)
    # Taps that meet an input lie together: by residue of the stride, and columns
    # descending, so that the outputs of neighbouring taps are neighbours too.
    tall = sorted(range(kernel_height), key=lambda k: (k % sy, k))
    broad = sorted(range(kernel_width), key=lambda k: (k % sx, -k))
    rows = weight[:, :, tall][:, :, :, broad].reshape(len(weight), c, -1).transpose(1, 2, 0)
    shift = np.array([-(ky // sy) * wide - kx // sx for ky in tall for kx in broad])
    major = InputMajor(rows, shift, tiles(forms, high * wide, len(weight)))

    def ranges(
        n: int, before: int, stride: int, taps: list[int], out: int
    ) -> list[tuple[int, int]]:
        """For each input row (or column): which taps, in their order, reach an output."""
        found = []
        for i in range(n):
            meets = [
                t
                for t, k in enumerate(taps)
                if (i + before - k) % stride == 0 and 0 <= (i + before - k) // stride < out
            ]
            found.append((meets[0], meets[-1] + 1) if meets else (0, 0))
        return found

    vertical = ranges(h, pads[0], sy, tall, high)
    horizontal = ranges(w, pads[1], sx, broad, wide)
    place = (
        np.array(
            [
                (
                    (y + pads[0]) // sy * wide + (x + pads[1]) // sx,
                    vertical[y][0]
                    | vertical[y][1] << 8
                    | horizontal[x][0] << 16
                    | horizontal[x][1] << 24,
                )
                for y in range(h)
                for x in range(w)
            ],
            np.int64,
        )
        .astype(np.uint32)
        .view(np.int32)
    )
    inner = h * w if listed == "list" else c
    target, after = after_conv(forms, node, "last", True)
    average = sum(b - a for a, b in vertical) * sum(b - a for a, b in horizontal) / (h * w)
    nonzero = int(np.count_nonzero(weight))
    macs = nonzero / (kernel_height * kernel_width) * average * h * w * value.lead
    emit_active(
        forms,
        node,
        kernel,
        value,
        source,
        major,
        node.constants["bias"],
        limits(s["low"], s["high"]),
        target,
        inner=inner,
        channel_first=listed == "list",
        taps=kernel_height * kernel_width,
        kernel_width=kernel_width,
        size=(high, wide),
        pool=s["pool"],
        place=place.reshape(-1),
        lead=value.lead,
        macs=macs,
    )
    after()
