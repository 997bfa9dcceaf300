"""Dense convolutions, and the kernels that layers with weights share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from gossamer.kernels.registry import Kernel, find, typed
from gossamer.runtime.constants import fact, nonzeros
from gossamer.runtime.graph import Array
from gossamer.runtime.lowering.convolution import Convolution
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.packing import BLOCK, padded, panels, sparse_panels, up_to

BLOCKS = {"whole": 1, "half": 2}  # in a vector of outputs, by the layout of "block lists"
WORTH = 2.0  # so many products of blocks for each one with a non-zero are too many


def gemm_kernels(lowering: Lowering, weight: Array, outputs: int) -> list[Kernel]:
    return worth_trying(lowering, find(lowering.isa, typed("gemm", weight)), outputs)


def sparse_gemm_kernels(lowering: Lowering, weight: Array) -> Sequence[Kernel]:
    """Return the kernels that skip inputs whose weights are zero for a whole vector of outputs."""
    worth = lowering.every or share_of_blocks(weight, lowering.width) < 0.5
    return find(lowering.isa, typed("sparse gemm", weight)) if worth else ()


def block_list_kernels(lowering: Lowering, weight: Array) -> list[Kernel]:
    """Return the kernels of blocks of outputs, each with its inputs, that do little in vain."""

    def useful(kernel: Kernel) -> bool:
        share = share_of_blocks(weight, lowering.width // BLOCKS[kernel.layout])
        return lowering.every or share * weight.size < WORTH * nonzeros(weight)

    return [k for k in find(lowering.isa, typed("block lists", weight)) if useful(k)]


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


def worth_trying(lowering: Lowering, kernels: Iterable[Kernel], outputs: int) -> list[Kernel]:
    """Tiles worth trying, that compute the fewest outputs in vain and are no wider than needed."""
    fit = [k for k in kernels if (float(k.tile) - 1) * lowering.width < outputs]
    waste = {k: up_to(outputs, columns_of(lowering, k)) for k in fit}
    fit.sort(key=waste.__getitem__)
    return [k for k in fit if waste[k] <= 4 / 3 * waste[fit[0]]][:3]


def columns_of(lowering: Lowering, kernel: Kernel) -> int:
    """Return how many outputs a tile of a dense product has; its name counts them in vectors."""
    return int(float(kernel.tile) * lowering.width)


def run_length(offset: Array) -> int:
    """Return how many adjacent numbers each run of inputs has, where all runs are equally long."""
    ends = np.flatnonzero(np.diff(offset) != 1) + 1
    run = int(ends[0]) if len(ends) else len(offset)
    return run if np.array_equal(ends, np.arange(run, len(offset), run)) else 1


def conv_gemm(conv: Convolution, kernel: Kernel, plain: str) -> None:
    weight, s = conv.weight, conv.settings
    (c, h, w), pads, (high, wide) = conv.size, s.pads, conv.out
    source = conv.padded_image(plain)
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
    target, after = conv.output("last")
    outputs, columns = len(weight) // s.groups, columns_of(conv.lowering, kernel)
    matrix = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    run = run_length(offset)
    for first in range(0, len(weight), outputs):
        part = matrix[first : first + outputs]
        start = base + np.int32(first // outputs * weight.shape[1] * deep)
        bias = padded(conv.bias[first : first + outputs], up_to(outputs, columns))
        dense_macs = macs = float(conv.pixels * part.size)
        shape = {
            "rows": high * wide,
            "outputs": outputs,
            "out_pitch": len(weight),
            "out_offset": first,
        }
        if kernel.operation.startswith("sparse"):
            bounds, inputs, values = sparse_panels(part, columns)
            data = [bounds, offset[inputs], values, bias, start, conv.clip]
            macs = float(conv.pixels * np.count_nonzero(part))
        else:
            data = [panels(part, columns), bias, offset[::run].copy(), start, conv.clip]
            shape |= {"depth": len(offset), "run": run}
        conv.add(kernel, source, target, shape, data, macs, dense_macs)
    after()


def depthwise(conv: Convolution, kernel: Kernel) -> None:
    c, lowering = conv.size[0], conv.lowering
    taps = padded(conv.weight.reshape(c, -1).T, up_to(c, BLOCK), axis=1)
    data = [
        np.ascontiguousarray(taps[:, : up_to(c, lowering.width)]),  # the kernel pads to its width
        padded(conv.bias, up_to(c, BLOCK)),
        conv.clip,
    ]
    target, after = conv.output("last")
    conv.add(kernel, lowering.form(conv.value, "last"), target, {}, data, conv.dense_macs)
    after()
