"""Concatenation without copies: a value is written straight into its place in a larger one."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import cast

from gossamer.runtime.program import Buffer, Step

# Kernels that write nothing beyond their outputs: what follows in the larger value may be there
# already.
WITHIN = ("binary", "copy", "depthwise", "embed", "gemm", "lanes", "layer_norm", "matmul", "planes",
          "pool", "scale", "softmax", "unary", "winograd")  # fmt: skip


def join(steps: Sequence[Step], inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> list[Step]:
    """Return the steps of one example without copies of whole values into parts of others.

    What wrote the smaller value writes that part, and what read it reads it there.
    """
    fixed = {*inputs, *outputs}  # are in the caller's memory
    writers: dict[Buffer, list[Step]] = {}
    for step in steps:
        for buffer in step.outputs:
            writers.setdefault(buffer, []).append(step)
    parts: dict[Buffer, Buffer] = {}
    remaining = []
    for step in steps:
        at, source = _place(step), step.inputs[0] if step.inputs else None
        if at is None or source is None or source in parts or {source, *step.outputs} & fixed:
            remaining.append(step)
        elif all(w.kernel.operation in WITHIN for w in writers.get(source, [])):
            parts[source] = source._replace(whole=step.outputs[0], at=at)
        else:
            remaining.append(step)
    return [_moved(step, parts) for step in remaining] if parts else list(steps)


def _place(step: Step) -> int | None:
    """Return where a step copies its whole input to, in one piece; None if it does not."""
    if step.kernel.operation != "copy" or step.items > 1 or step.epilogue or step.shape["clear"]:
        return None
    loops = zip(
        *(cast(Sequence[int], step.shape[k]) for k in ("sizes", "in_strides", "out_strides")),
        strict=True,
    )
    long = [loop for loop in loops if loop[0] > 1]
    source = step.inputs[0]
    if source is None or step.shape["in_offset"] or [each[1:] for each in long] != [(1, 1)]:
        return None
    return cast(int, step.shape["out_offset"]) if source.floats == long[0][0] else None


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
