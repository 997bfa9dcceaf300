"""Parts of larger values without copies: each is written and read in its place there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import cast

from gossamer.runtime.lowering.layouts import copy_loops
from gossamer.runtime.program import Buffer, Step


def join(steps: Sequence[Step], inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> list[Step]:
    """Return the steps of one example without copies between whole values and parts of others.

    What wrote the smaller value, as for a concatenation, writes that part, and what reads it, as of
    a slice, reads it there.
    """
    fixed = {*inputs, *outputs}  # are in the caller's memory
    writers: dict[Buffer, list[Step]] = {}
    for step in steps:
        for buffer in step.outputs:
            writers.setdefault(buffer, []).append(step)
    parts: dict[Buffer, Buffer] = {}
    remaining = []
    for step in steps:
        source = _contiguous(step)
        if source is None or {source, *step.outputs} & fixed:
            remaining.append(step)
            continue
        target, size = step.outputs[0], _size(step)
        written, read = (cast(int, step.shape[k]) for k in ("out_offset", "in_offset"))
        # What follows in the larger value may be there already.
        within = all(w.kernel.writes_within for w in writers.get(source, []))
        if size == source.floats and source not in parts and within:
            parts[source] = source._replace(whole=target, at=written)
        elif size == target.floats and len(writers[target]) == 1:
            parts[target] = target._replace(whole=source, at=read)
        else:
            remaining.append(step)
    return [_moved(step, parts) for step in remaining] if parts else list(steps)


def _contiguous(step: Step) -> Buffer | None:
    """Return what a step copies in one piece, from one buffer into another; None if it does not."""
    if step.kernel.operation != "copy" or step.items > 1 or step.epilogue or step.shape["clear"]:
        return None
    return step.inputs[0] if [loop[1:] for loop in copy_loops(step)] == [(1, 1)] else None


def _size(step: Step) -> int:
    """Return how many numbers a step copies."""
    return math.prod(cast(Sequence[int], step.shape["sizes"]))


def _moved(step: Step, parts: dict[Buffer, Buffer]) -> Step:
    """Return the step with the buffers in ``parts`` replaced."""

    def place(buffer: Buffer | None) -> Buffer | None:
        return buffer if buffer is None else _resolved(buffer, parts)

    moved = copy(step)
    moved.inputs = tuple(place(buffer) for buffer in step.inputs)
    moved.outputs = tuple(_resolved(buffer, parts) for buffer in step.outputs)
    moved.epilogue = tuple(replace(link, other=place(link.other)) for link in step.epilogue)
    return moved


def _resolved(buffer: Buffer, parts: dict[Buffer, Buffer]) -> Buffer:
    """Return the buffer as a part of one that is no part itself."""
    at, whole = 0, buffer
    while whole in parts:
        at += parts[whole].at
        whole = cast(Buffer, parts[whole].whole)
    return buffer if whole == buffer else buffer._replace(whole=whole, at=at)
