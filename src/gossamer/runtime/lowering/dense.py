"""Dense convolutions, and what every convolution shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.registry import Kernel, find, typed
from gossamer.runtime.constants import fact, nonzeros
from gossamer.runtime.graph import AnyNode, Array, Node
from gossamer.runtime.lowering.layouts import Lowering, Value
from gossamer.runtime.packing import (
    BLOCK,
    limits,
    padded,
    panels,
    sparse_panels,
    up_to,
)
from gossamer.runtime.program import Buffer

WORTH = 2.0  # so many products of blocks for each one with a non-zero are too many

if TYPE_CHECKING:
    from gossamer.runtime.operators.conv import Conv


def gemm_kernels(lowering: Lowering, weight: Array, outputs: int) -> list[Kernel]:
    return worth_trying(lowering, find(lowering.isa, typed("gemm", weight)), outputs)


def sparse_gemm_kernels(lowering: Lowering, weight: Array) -> list[Kernel]:
    """Return the kernels that skip inputs whose weights are zero for a whole vector of outputs."""
    worth = lowering.every or share_of_blocks(weight, lowering.width) < 0.5
    return find(lowering.isa, typed("sparse gemm", weight)) if worth else []


def sparse_kernels(
    lowering: Lowering, operation: str, weight: Array, groups: int = 1
) -> list[Kernel]:
    """Return the kernels of non-zeros, single or in blocks, that could be fastest.

    Args:
        lowering: its instruction set, and whether all kernels are wanted.
        operation: of the kernels.
        weight: [outputs, ...].
        groups: equal parts of the outputs that read different inputs.
    """
    outputs = len(weight)

    def useful(kernel: Kernel) -> bool:
        together = outputs_together(kernel)
        if kernel.layout == "depthwise" or (groups > 1 and outputs // groups % together):
            return False
        if together == 1 or lowering.every:
            return True
        whole = weight.size / outputs * up_to(outputs, together)
        return share_of_blocks(weight, together) * whole < WORTH * max(1, nonzeros(weight))

    return [k for k in find(lowering.isa, typed(operation, weight)) if useful(k)]


def outputs_together(kernel: Kernel) -> int:
    """Return how many outputs of a block share its input; 1 where weights are single."""
    return int(kernel.layout.removeprefix("blocks of ")) if "blocks" in kernel.layout else 1


def share_of_blocks(weight: Array, together: int) -> float:
    """Return the share of the blocks of ``together`` outputs of an input that have a non-zero."""

    def share() -> float:
        matrix = weight.reshape(len(weight), -1)
        tall = padded(matrix, up_to(len(matrix), together)).reshape(-1, together, matrix.shape[1])
        return float(tall.any(axis=1).mean())

    return fact(weight, ("share of blocks", together), share)


def worth_trying(lowering: Lowering, kernels: list[Kernel], outputs: int) -> list[Kernel]:
    """Tiles worth trying, that compute the fewest outputs in vain and are no wider than needed."""
    fit = [k for k in kernels if (float(k.tile) - 1) * lowering.width < outputs]
    waste = {k: up_to(outputs, columns_of(lowering, k)) for k in fit}
    fit.sort(key=waste.__getitem__)
    return [k for k in fit if waste[k] <= 4 / 3 * waste[fit[0]]][:3]


def columns_of(lowering: Lowering, kernel: Kernel) -> int:
    """Return how many outputs a tile of a dense product has; its name counts them in vectors."""
    return int(float(kernel.tile) * lowering.width)


def conv_size(lowering: Lowering, node: Node[Conv]) -> tuple[int, int]:
    """Return height and width of a convolution's output before its pool."""
    _, (_, h, w) = lowering.image(node)
    return node.operation.size((h, w), node.constants["weight"].shape[2:])


def dense_macs(lowering: Lowering, node: AnyNode) -> float:
    weight = node.constants["weight"]
    if node.op == "linear":
        return float(weight.size)
    high, wide = conv_size(lowering, node)
    return float(weight.size * high * wide)


def run_length(offset: Array) -> int:
    """Return how many adjacent numbers each run of inputs has, where all runs are equally long."""
    ends = np.flatnonzero(np.diff(offset) != 1) + 1
    run = int(ends[0]) if len(ends) else len(offset)
    return run if np.array_equal(ends, np.arange(run, len(offset), run)) else 1


def pool_shape(
    size: tuple[int, int, int],
    out: tuple[int, int],
    *,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    kind: str,
    channels_last: bool,
) -> dict[str, int]:
    """The shape of the kernel ``pool``: sizes in and out, and the attributes of a pool."""
    channels, in_height, in_width = size
    high, wide = out
    side_by_side = kernel[0] == 1 and tuple(kernel) == tuple(strides) and not any(pads)
    if side_by_side and not channels_last and in_width == wide * kernel[1]:
        in_height, in_width, high, wide = 1, in_height * in_width, 1, high * wide  # one long row
    return {
        "channels": channels,
        "in_height": in_height,
        "in_width": in_width,
        "height": high,
        "width": wide,
        "kernel_height": kernel[0],
        "kernel_width": kernel[1],
        "stride_height": strides[0],
        "stride_width": strides[1],
        "top": pads[0],
        "left": pads[1],
        "kind": ("max", "average", "average_padded", "sum").index(kind),
        "channels_last": channels_last,
        "below": pads[2],
        "right": pads[3],
    }


def after_conv(
    lowering: Lowering, node: Node[Conv], form: str, pool: bool
) -> tuple[Buffer, Callable[[], None]]:
    """Return the buffer that a convolution writes, and the function that adds its max-pool."""
    result = lowering.value(node.output)
    side = node.operation.pool
    if side == 1 or pool:
        return lowering.new(result, form, result.item), lambda: None
    high, wide = conv_size(lowering, node)
    channels = result.channels
    before = Buffer(f"{node.output}|before pool", result.items * channels * high * wide)

    def after() -> None:
        lowering.add(
            node.name,
            lowering.kernel("pool"),
            (before,),
            lowering.new(result, form, result.item),
            pool_shape(
                (channels, high, wide),
                (high // side, wide // side),
                kernel=[side, side],
                strides=[side, side],
                pads=[0, 0, 0, 0],
                kind="max",
                channels_last=form == "last",
            ),
            items=result.items,
        )

    return before, after


def conv_gemm(
    lowering: Lowering,
    node: Node[Conv],
    kernel: Kernel,
    value: Value,
    size: tuple[int, int, int],
    plain: str,
) -> None:
    weight, bias, s = node.constants["weight"], node.constants["bias"], node.operation
    groups, pads = s.groups, s.pads
    sparse = kernel.operation.startswith("sparse")
    c, h, w = size
    high, wide = conv_size(lowering, node)
    source = lowering.padded_image(value, size, pads, plain)
    rows, pitch = h + pads[0] + pads[2], w + pads[1] + pads[3]
    across, down, deep = (c, pitch * c, 1) if plain == "last" else (1, pitch, rows * pitch)
    ky, kx, ic = np.meshgrid(
        np.arange(weight.shape[2]) * s.dilations[0] * down,
        np.arange(weight.shape[3]) * s.dilations[1] * across,
        np.arange(weight.shape[1]) * deep,
        indexing="ij",
    )
    offset = (ky + kx + ic).astype(np.int32).ravel()
    y, x = np.meshgrid(
        np.arange(high) * s.strides[0], np.arange(wide) * s.strides[1], indexing="ij"
    )
    base = (y * down + x * across).astype(np.int32).ravel()
    target, after = after_conv(lowering, node, "last", False)
    outputs = len(weight) // groups
    columns = columns_of(lowering, kernel)
    matrix = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    clip = limits(s.low, s.high)
    run = run_length(offset)
    for group in range(groups):
        part = slice(group * outputs, (group + 1) * outputs)
        start = base + np.int32(group * weight.shape[1] * deep)
        padded_bias = padded(bias[part], up_to(outputs, columns))
        pixels = value.items * high * wide
        shape = {
            "rows": high * wide,
            "outputs": outputs,
            "out_pitch": len(weight),
            "out_offset": group * outputs,
        }
        if sparse:
            bounds, inputs, values = sparse_panels(matrix[part], columns)
            data = [bounds, offset[inputs], values, padded_bias, start, clip]
            macs = float(pixels * np.count_nonzero(matrix[part]))
        else:
            data = [panels(matrix[part], columns), padded_bias, offset[::run].copy(), start, clip]
            macs = float(pixels * matrix[part].size)
            shape |= {"depth": len(offset), "run": run}
        lowering.add(
            node.name,
            kernel,
            (source,),
            target,
            shape,
            data=data,
            items=value.items,
            macs=macs,
            dense_macs=float(pixels * matrix[part].size),
        )
    after()


def depthwise(
    lowering: Lowering, node: Node[Conv], value: Value, size: tuple[int, int, int]
) -> None:
    weight, bias, s = node.constants["weight"], node.constants["bias"], node.operation
    c, h, w = size
    high, wide = conv_size(lowering, node)
    source = lowering.form(value, "last")
    taps = padded(weight.reshape(c, -1).T, up_to(c, BLOCK), axis=1)
    data = [
        np.ascontiguousarray(taps[:, : up_to(c, lowering.width)]),  # the kernel pads to its width
        padded(bias, up_to(c, BLOCK)),
        limits(s.low, s.high),
    ]
    target, after = after_conv(lowering, node, "last", False)
    macs = float(value.items * weight.size * high * wide)
    lowering.add(
        node.name,
        lowering.kernel(typed("depthwise", weight)),
        (source,),
        target,
        {
            "channels": c,
            "in_height": h,
            "in_width": w,
            "height": high,
            "width": wide,
            "kernel_height": weight.shape[2],
            "kernel_width": weight.shape[3],
            "stride_height": s.strides[0],
            "stride_width": s.strides[1],
            "dilation_height": s.dilations[0],
            "dilation_width": s.dilations[1],
            "top": s.pads[0],
            "left": s.pads[1],
        },
        data=data,
        items=value.items,
        macs=macs,
        dense_macs=macs,
    )
    after()
