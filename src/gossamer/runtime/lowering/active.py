"""Kernels that read a list of active inputs, for linear layers and convolutions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from gossamer.kernels._kernels import LIST_HEADER
from gossamer.kernels.registry import Kernel, find, typed
from gossamer.runtime.graph import AnyNode, Array
from gossamer.runtime.lowering.layouts import SUMS, Lowering, Value
from gossamer.runtime.packing import BLOCK, InputMajor, limits, padded, up_to
from gossamer.runtime.program import Buffer

REACH = 1 << 15  # numbers that an offset of two bytes can be away


def active_kernels(lowering: Lowering, weight: Array, value: Value, span: int) -> Iterator[Kernel]:
    """Yield the input-major kernels that could be fastest, by an estimate of their work.

    Args:
        lowering: its instruction set, and whether all kernels are wanted.
        weight: [inputs, taps, outputs].
        value: the layer's input.
        span: bound on the distance between a sum and the start of its window, in numbers.
    """
    listed = any(form.startswith("list") for form in value.forms)
    if weight.shape[1] > 1 and value.density > 0.7 and not (listed or lowering.every):
        return
    outputs = weight.shape[2]
    nonzero = max(1, int(np.count_nonzero(weight)))
    whole = padded(weight, up_to(outputs, BLOCK), axis=2)
    # Rough cost of a row in vector operations; the planner measures what is left.
    cost = {"scatter 2 bytes": nonzero * 1.0} if span < REACH else {}
    for size in (8, 16):
        blocks = whole.reshape(*whole.shape[:2], -1, size).any(axis=3).sum()
        cost[f"block {size}"] = float(blocks) * max(1.0, size / lowering.width)
        if weight.shape[1] > 1:
            cost[f"channels {size}"] = cost[f"block {size}"]
    cost["expand 16"] = cost["block 16"] * 1.2
    cost["dense 1"] = weight[:, :, :1].size * up_to(outputs, BLOCK) / lowering.width * 0.7
    best = math.inf if lowering.every else min(cost.values())
    for kernel in find(lowering.isa, typed("active", weight)):
        name = f"{kernel.layout} {kernel.tile}"
        if name in cost and cost[name] <= 2.5 * best:
            yield kernel


@dataclass(frozen=True)
class Grid:
    """Layout of a convolution's active inputs and their sums (a linear layer: one position).

    The fields but ``place`` are those of the kernel's shape, see ``ActiveShape`` in
    ``kernels/kernel.h``.

    Rows of sums are separated by a margin for products that fall outside the output, so that no
    input must check which columns of the kernel reach an output. ``residues`` is the number of
    classes of input positions modulo the strides, each with its own taps. ``place`` concatenates
    three tables: for each residue and row of taps, the first input row that reaches an output and
    the end of these rows; for each input position, the start of its window and the rows of taps
    that reach an output (first | end << 8 | residue << 16); for each input position, its row, with
    the rows of a residue consecutive.
    """

    out_height: int = 1
    out_width: int = 1
    pitch: int = 1
    origin: int = 0
    positions: int = 1
    residues: int = 1
    in_height: int = 1
    in_width: int = 1
    inner: int = 1
    channel_first: bool = True
    pool: int = 1
    planes: bool = False
    place: Array = field(default_factory=lambda: np.zeros(4, np.int32))


def tiles(lowering: Lowering, positions: int, outputs: int) -> int:
    """Return the number of slices of outputs, one for each thread at least.

    The sums of a slice fit the cache or, of a single position, are within ``REACH``.
    """
    blocks = up_to(outputs, BLOCK) // BLOCK
    fit = max(1, SUMS // (positions * BLOCK * 4)) if positions > 1 else REACH // BLOCK - 1
    tiles = -(-blocks // fit)
    if not lowering.batched:
        tiles = max(tiles, lowering.threads)
    return min(tiles, blocks, 8)


def slice_of(lowering: Lowering, positions: int, outputs: int) -> int:
    """Return the number of outputs in a slice of ``tiles``, padded."""
    count = tiles(lowering, positions, outputs)
    return up_to(outputs, BLOCK * count) // count


def emit_active(
    lowering: Lowering,
    node: AnyNode,
    kernel: Kernel,
    value: Value,
    major: InputMajor,
    output: Buffer,
    grid: Grid,
    macs: float,
    dense_macs: float,
) -> None:
    """Add the step of a layer that reads a list of its active inputs."""
    source = lowering.form(value, lowering.list_form(value))
    match kernel.layout:
        case "scatter":
            packed = major.scatter()
        case "block":
            packed = major.block(int(kernel.tile))
        case "channels":
            packed = major.strips(int(kernel.tile))
        case "dense":
            packed = major.dense(lowering.width)
        case _:
            packed = major.expand()
    # index / inner by multiplication, exact for all indices below 2^20
    shift = 20 + max(1, math.ceil(math.log2(grid.inner + 1)))
    multiplier = -(-(1 << shift) // grid.inner)
    capacity = (source.floats // value.items - LIST_HEADER) // 2
    shape = {
        **{name: size for name, size in vars(grid).items() if name != "place"},
        "capacity": capacity,
        "multiplier": multiplier,
        "shift": shift,
        "rows": major.rows,
        "outputs": len(node.constants["bias"]),
        "padded": major.outputs,
        "tiles": major.tiles,
        "inputs": major.inputs,
    }
    bias = padded(node.constants["bias"], major.outputs)
    clip = limits(node.operation.low, node.operation.high)
    lowering.add(
        node.name,
        kernel,
        (source,),
        output,
        shape,
        data=[*packed, bias, clip, grid.place],
        scratch=grid.positions * major.slice
        + 8
        + 3 * (capacity + BLOCK)
        + (2 * major.rows + grid.in_height) * major.inputs
        + BLOCK,
        items=value.items,
        macs=macs * value.density,
        dense_macs=dense_macs,
    )
