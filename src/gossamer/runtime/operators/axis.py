"""Layers along any axis, by transposing it to be the last one and back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from gossamer.runtime.graph import Array
from gossamer.runtime.operators.context import Context, shown
from gossamer.runtime.operators.linear import linear
from gossamer.runtime.operators.transpose import place
from gossamer.runtime.operators.unsupported import Unsupported

Maps = list[tuple[int, int, Callable[[], Array]]]  # axis, new size, function that makes [new, old]


def axis_of(context: Context, value: str, axis: int) -> int:
    """Return an axis of a value as a number from 0 on; raise if the value has no such axis."""
    rank = len(context.shape(value))
    if not -rank <= axis < rank:
        raise Unsupported(f"it has no axis {axis} in {shown(context.shape(value))}")
    return axis % rank


def on_axis(
    context: Context, value: str, axis: int, output: str, act: Callable[[str, str], str]
) -> str:
    """Apply ``act``, which works along the last axis, along ``axis``; return the result's name.

    ``act`` takes the names of its input and output and returns that of its output.
    """
    rank = len(context.shape(value))
    if axis == rank - 1:
        return act(value, output)
    perm = [i for i in range(rank) if i != axis] + [axis]
    done = act(place(context, value, perm), "")
    return place(context, done, [perm.index(i) for i in range(rank)], output)


def along_axes(context: Context, value: str, output: str, maps: Maps) -> str:
    """Multiply by a matrix along each axis of ``maps`` in turn; return the result's name."""
    for position, (axis, size, make) in enumerate(maps, start=1):
        context.spend(size * context.shape(value)[axis])
        matrix, bias = make().astype(np.float32), np.zeros(size, np.float32)
        act = partial(linear, context, weight=matrix, bias=bias)
        value = on_axis(context, value, axis, output if position == len(maps) else "", act)
    return value
