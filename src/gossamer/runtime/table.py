"""The table of kernels: which exist on this machine, and how to name one."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from gossamer.errors import UserError, nearest
from gossamer.runtime._kernels import kernel_table
from gossamer.runtime.graph import Array


class Kernel(NamedTuple):
    """One row: what it computes, on which layout, in which tile, with which instructions."""

    number: int
    operation: str
    layout: str
    tile: str
    isa: str
    width: int

    def __str__(self) -> str:
        return f"{self.operation} {self.layout} {self.tile} {self.isa}"


KERNELS = tuple(Kernel(i, *row) for i, row in enumerate(kernel_table()))
ISAS = tuple(dict.fromkeys(kernel.isa for kernel in KERNELS))


def chosen_isa(isa: str | None = None) -> str:
    """The instruction set to use: the argument, GOSSAMER_ISA, or the widest there is."""
    wanted = isa or os.environ.get("GOSSAMER_ISA") or ISAS[-1]
    if wanted not in ISAS:
        raise UserError(
            f"instruction set {wanted!r} is not on this machine; {nearest(wanted, ISAS)}"
        )
    return wanted


def held(operation: str, weight: Array) -> str:
    """The operation by its kernels for weights of this type: float32, or int8."""
    return f"{operation} int8" if weight.dtype == np.int8 else operation


def find(isa: str, operation: str, layout: str | None = None) -> list[Kernel]:
    """The kernels of an operation, in the order of the table."""
    return [
        kernel
        for kernel in KERNELS
        if kernel.isa == isa
        and kernel.operation == operation
        and (layout is None or kernel.layout == layout)
    ]
