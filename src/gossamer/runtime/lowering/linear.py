"""Candidate kernels of a linear layer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from gossamer.kernels.registry import Kernel, find, typed
from gossamer.runtime.constants import fact, in_16_bits, nonzeros
from gossamer.runtime.graph import Array, Candidate, Node
from gossamer.runtime.lowering.active import Grid, active_kernels, emit_active, slice_of, tiles
from gossamer.runtime.lowering.dense import (
    BLOCKS,
    block_list_kernels,
    columns_of,
    gemm_kernels,
    outputs_together,
    sparse_gemm_kernels,
    sparse_kernels,
)
from gossamer.runtime.lowering.layouts import Lowering, Value
from gossamer.runtime.packing import (
    InputMajor,
    by_output,
    by_windows,
    limits,
    longest_first,
    padded,
    panels,
    sparse_panels,
    up_to,
)
from gossamer.runtime.program import Buffer, once

if TYPE_CHECKING:
    from gossamer.runtime.operators.linear import Linear


FEW = 4  # vectors of outputs that may be too few sums to keep the processor busy
ROWS = 8  # that meet a weight of 16 bits: with more, reading it is not what takes time


def _reads_rarely(lowering: Lowering, rows: int) -> bool:
    """Whether reading a weight takes longer than what is computed with it."""
    return not lowering.batched and rows <= ROWS


def in_order(value: Value, weight: Array, plain: str) -> Array:
    """Return a linear layer's weight with its columns in the order of the input's form."""
    if plain == "last" and value.pixels > 1:
        inner = weight.reshape(len(weight), value.channels, value.pixels)
        return np.ascontiguousarray(inner.transpose(0, 2, 1)).reshape(weight.shape)
    return weight


def linear(lowering: Lowering, node: Node[Linear]) -> Iterator[Candidate]:
    value = lowering.values[node.inputs[0]]
    weight, bias = node.constants["weight"], node.constants["bias"]
    outputs, depth = weight.shape
    items = value.items * value.item // depth
    clip = limits(node.operation.low, node.operation.high)
    nonzero = nonzeros(weight)
    dense_macs, sparse_macs = float(items * weight.size), float(items * nonzero)
    flat = items == value.items

    def packed(
        stored: Array, make: Callable[[Array], Sequence[Array]], *of: Hashable
    ) -> list[Array]:
        """Return the weight packed by ``make``, once for all steps that use it."""
        form = plain()
        key = (*of, lowering.width, form, value.channels, value.pixels, stored.dtype)
        return once(weight, lambda: make(in_order(value, stored, form)), key)

    def plain() -> str:
        return lowering.layout(value) if flat else "dense"

    def out() -> Buffer:
        result = lowering.value(node.output)
        return lowering.new(result, "dense", result.item)

    def add(
        kernel: Kernel, shape: dict[str, int], data: list[Array], macs: float, scratch: int = 0
    ) -> None:
        lowering.add(
            node.name,
            kernel,
            (lowering.form(value, plain()),),
            out(),
            {"rows": 1, "outputs": outputs, **shape},
            data=data,
            items=items,
            scratch=scratch,
            macs=macs,
            dense_macs=dense_macs,
        )

    def gemm(kernel: Kernel, stored: Array) -> None:
        columns = columns_of(lowering, kernel)
        data = [
            *packed(stored, lambda w: [panels(w, columns)], "gemm", columns),
            padded(bias, up_to(outputs, columns)),
            np.zeros(1, np.int32),
            np.zeros(1, np.int32),
            clip,
        ]
        shape = {"depth": depth, "run": depth, "out_pitch": outputs, "out_offset": 0}
        add(kernel, shape, data, dense_macs)

    def sparse_gemm(kernel: Kernel, stored: Array) -> None:
        width = lowering.width
        data = [
            *packed(stored, lambda w: sparse_panels(w, width), "sparse panels"),
            padded(bias, up_to(outputs, width)),
            np.zeros(1, np.int32),
            clip,
        ]
        add(kernel, {"out_pitch": outputs, "out_offset": 0}, data, sparse_macs)

    def dots(kernel: Kernel, stored: Array) -> None:
        width, together = lowering.width, int(kernel.tile)

        def rows(w: Array) -> list[Array]:
            return [padded(padded(w, up_to(outputs, together)), up_to(depth, width), axis=1)]

        data = [*packed(stored, rows, "dots", together), bias, clip]
        add(kernel, {"depth": depth}, data, dense_macs)

    def columns(kernel: Kernel) -> None:
        lanes, together = int(kernel.tile) * lowering.width, outputs_together(kernel)
        entries = packed(
            weight, lambda w: by_output(w, np.arange(depth), together), "columns", together
        )
        data = [*entries, padded(bias, up_to(outputs, together)), clip]
        scratch = (depth + lowering.width) * lanes
        add(kernel, {"depth": depth}, data, sparse_macs, scratch)

    def block_lists(kernel: Kernel, stored: Array) -> None:
        width, blocks = lowering.width, BLOCKS[kernel.layout]
        lists = packed(stored, lambda w: longest_first(w, width, blocks), "longest first", blocks)
        lanes = lists[-1][:, :, None] + np.arange(width // blocks)
        data = [*lists, padded(bias, lanes.size)[lanes], clip]
        add(kernel, {"depth": depth}, data, sparse_macs)

    def windows(kernel: Kernel, stored: Array) -> None:
        data = [
            *packed(stored, lambda w: by_windows(w, lowering.width), "windows"),
            padded(bias, up_to(outputs, lowering.width)),
            clip,
        ]
        add(kernel, {"depth": depth}, data, sparse_macs)

    def active(kernel: Kernel) -> None:
        form = "last" if lowering.list_form(value) == "list last" else "dense"
        inputs = np.ascontiguousarray(in_order(value, weight, form).T)
        major = InputMajor(
            inputs[:, None, None], np.zeros(1, np.int64), tiles(lowering, 1, outputs)
        )
        emit_active(lowering, node, kernel, value, major, out(), Grid(), sparse_macs, dense_macs)

    half = in_16_bits(weight) if lowering.every or _reads_rarely(lowering, items) else None
    forms = [weight] if half is None else [weight, half]
    for stored in forms:
        for kernel in gemm_kernels(lowering, stored, outputs):
            yield Candidate(str(kernel), partial(gemm, kernel, stored))
        if lowering.every or (outputs <= FEW * lowering.width and not lowering.batched):
            for kernel in find(lowering.isa, typed("dots", stored)):
                yield Candidate(str(kernel), partial(dots, kernel, stored))
    if not lowering.usable(weight):
        return
    for stored in forms:
        for kernel in sparse_gemm_kernels(lowering, stored):
            yield Candidate(str(kernel), partial(sparse_gemm, kernel, stored))
    density = nonzero / weight.size
    if lowering.every or (density < 0.6 and (lowering.batched or items > 1)):
        for kernel in sparse_kernels(lowering, "columns", weight):
            yield Candidate(str(kernel), partial(columns, kernel))
    if depth < 1 << 16 and (lowering.every or (density < 0.4 and not lowering.batched)):
        for stored in forms:
            for kernel in find(lowering.isa, typed("windows", stored)):
                yield Candidate(str(kernel), partial(windows, kernel, stored))
            for kernel in block_list_kernels(lowering, stored):
                yield Candidate(str(kernel), partial(block_lists, kernel, stored))
    if flat and depth < 1 << 20:
        kernels = fact(
            weight,
            ("active", lowering.isa, lowering.every),
            lambda: [
                *active_kernels(
                    lowering, weight.T[:, None, :], value, slice_of(lowering, 1, outputs)
                )
            ],
        )
        for kernel in kernels:
            yield Candidate(str(kernel), partial(active, kernel))
