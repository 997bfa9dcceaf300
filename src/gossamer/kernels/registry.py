"""The registry of this machine's kernels, and the choice of the instruction set."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import UserError, nearest
from gossamer.kernels._kernels import kernel_table


class Kernel(NamedTuple):
    """A kernel's row: its operation, layout, tile and instruction set.

    ``width`` is the number of floats in a vector register. ``epilogue``: whether the same call can
    apply operations to each number of the output (see ``lowering.epilogues``); ``writes_within``:
    whether it writes nothing past the end of an output; ``any_number``: whether inputs may be
    infinite or NaN. ``fields`` are the names of the integers in its shape struct, each with its
    count.
    """

    number: int
    operation: str
    layout: str
    tile: str
    isa: str
    width: int
    epilogue: bool
    writes_within: bool
    any_number: bool
    fields: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"{self.operation} {self.layout} {self.tile} {self.isa}"

    def shape(self, values: Mapping[str, int | Sequence[int]]) -> list[int]:
        """Return the integers of a shape, in the order of the kernel's struct.

        Raises:
            ValueError: a field is missing, unknown, or has another number of integers.
        """
        lists = {
            name: list(value) if isinstance(value, Sequence) else [value]
            for name, value in values.items()
        }
        if {name: len(numbers) for name, numbers in lists.items()} != dict(self.fields):
            raise ValueError(f"{self} takes the shape {dict(self.fields)}, not {values}")
        return [int(number) for name, _ in self.fields for number in lists[name]]


def _fields(declarators: str) -> tuple[tuple[str, int], ...]:
    """Parse ``"size, strides[4]"`` to ``(("size", 1), ("strides", 4))``."""
    return tuple(
        (name, int(count or 1)) for name, count in re.findall(r"(\w+)(?:\[(\d+)\])?", declarators)
    )


KERNELS = tuple(
    Kernel(number, *row[:-1], _fields(row[-1])) for number, row in enumerate(kernel_table())
)
ISAS = tuple(dict.fromkeys(kernel.isa for kernel in KERNELS))  # narrowest first


def chosen_isa(isa: str | None = None) -> str:
    """Return the instruction set to use: the argument, GOSSAMER_ISA, or the widest available."""
    wanted = isa or os.environ.get("GOSSAMER_ISA") or ISAS[-1]
    if wanted not in ISAS:
        raise UserError(
            f"instruction set {wanted!r} is not on this machine; {nearest(wanted, ISAS)}"
        )
    return wanted


def training_isa() -> str:
    """Return the instruction set of the training kernels; see ``GOSSAMER_ISA``."""
    isa, offered = chosen_isa(), _training_isas()
    return isa if isa in offered else offered[-1]


@cache
def _training_isas() -> tuple[str, ...]:
    from gossamer.kernels._training import training_kernels

    return tuple(isa for _, _, isa, _ in training_kernels())


def typed(operation: str, weight: NDArray[Any]) -> str:
    """Return the name of an operation's kernels for weights of float32, float16 or int8."""
    return operation if weight.dtype == np.float32 else f"{operation} {weight.dtype}"


def loops(operation: str) -> int:
    """Return how many loops the kernel of an operation on strided arrays has."""
    return dict(next(kernel.fields for kernel in KERNELS if kernel.operation == operation))["sizes"]


@cache
def find(isa: str, operation: str, layout: str | None = None) -> tuple[Kernel, ...]:
    """Return the kernels of an operation, in the order of the table."""
    return tuple(
        kernel
        for kernel in KERNELS
        if kernel.isa == isa
        and kernel.operation == operation
        and (layout is None or kernel.layout == layout)
    )
